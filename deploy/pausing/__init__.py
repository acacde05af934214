"""Deployments, functions and targets that wait: asked for, told, and gone on with."""
