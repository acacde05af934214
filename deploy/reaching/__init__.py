"""The way to each shard of Redis, and what can go wrong on it."""
