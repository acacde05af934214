"""What a shard runs gearsync's functions on, behind one interface: the module, or RedisGears 1.2."""
