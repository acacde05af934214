"""The commands that write-through hooks."""

from __future__ import annotations

DELETING = ("del", "unlink")
WRITES = (
    *("hset", "hmset", "hsetnx", "hincrby", "hincrbyfloat", "hdel", *DELETING),
    *("expire", "pexpire", "expireat", "pexpireat"),
)
"""The commands that wait for SQL."""
REFUSED = ("rename", "renamenx", "copy", "restore", "move", "setex", "psetex", "setnx")
"""Commands that change keys and can't wait; RedisGears can pass on what they reply to other keys."""
