"""The commands that write-through hooks."""

from __future__ import annotations

DELETING = ("del", "unlink")
WRITES = (
    *("hset", "hmset", "hsetnx", "hincrby", "hincrbyfloat", "hdel", *DELETING),
    *("expire", "pexpire", "expireat", "pexpireat"),
)
"""The commands that wait for SQL."""
FREEING = (*DELETING, "hdel", "expire", "pexpire", "expireat", "pexpireat", "rename", "renamenx", "move")
"""Those that Redis does also where there is no memory."""
REFUSED = ("rename", "renamenx", "copy", "restore", "move", "setex", "psetex", "setnx")
"""Commands that change keys and can't wait; RedisGears can pass on what they reply to other keys."""
