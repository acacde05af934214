"""A deployment on its way to all shards: planned, compared, uploaded."""
