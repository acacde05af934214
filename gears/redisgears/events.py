"""The events after which a key may be another hash, or none; and the commands that read one."""

from __future__ import annotations

EVENTS = (
    # The most common first: RedisGears compares one after another.
    *("hset", "hincrby", "hdel", "del", "expired", "hincrbyfloat", "hexpired", "evicted"),
    *("rename_from", "rename_to", "copy_to", "restore", "move_from", "move_to", "set"),
    *("sunionstore", "sinterstore", "sdiffstore", "zunionstore", "zinterstore", "zdiffstore", "zrangestore"),
    *("sortstore", "georadiusstore", "geosearchstore"),
)

OF_HASHES = frozenset(("hset", "hincrby", "hincrbyfloat", "hdel", "hexpired"))
"""The events of hashes, which neither replace a key of another type nor end it."""

ENDS = frozenset(("del", "expired", "evicted", "rename_from", "move_from", "hdel", "hexpired"))
"""The events after which a key may be none. After all others it is there, in their database."""

OF_STRINGS = ("append", "setrange", "incrby", "incrbyfloat", "setbit", "getset", "pfadd")
"""The further events after which a string, for a mapping of documents, is another one."""

MISS = "keymiss"
READS = (
    *("hget", "hmget", "hgetall", "hexists", "hlen", "hstrlen", "hkeys", "hvals", "hrandfield"),
    *("exists", "type"),
)
"""The commands that load a row."""
