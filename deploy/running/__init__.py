"""Processes that the command line starts: a server with the module, workers beside it."""
