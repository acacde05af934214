"""The tables of gearsync itself in a target: how far it is, and what it has promised."""
