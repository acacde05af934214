"""The events after which a key may be another hash, or none."""

from __future__ import annotations

EVENTS = (
    # The most common first: RedisGears compares one after another.
    *("hset", "hincrby", "hdel", "del", "expired", "hincrbyfloat", "hexpired", "evicted"),
    *("rename_from", "rename_to", "copy_to", "restore", "move_from", "move_to", "set"),
    *("sunionstore", "sinterstore", "sdiffstore", "zunionstore", "zinterstore", "zdiffstore", "zrangestore"),
    *("sortstore", "georadiusstore", "geosearchstore"),
)
