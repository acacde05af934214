"""The command line: what it does, and what it does it with."""
