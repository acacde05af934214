"""Drafts of gearsync.toml: from a database, from models, from keys in Redis; and tables for its mappings."""
