"""Keys that change their shard in a cluster: the marks of their moves, and the waiting for other shards."""
