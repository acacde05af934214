"""gearsync dashboard: one web page about all shards."""
