"""gearsync load: rows to Redis."""
