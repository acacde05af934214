"""gearsync demo: the whole way in one command."""
