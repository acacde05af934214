"""Why a client's write is not done."""

from __future__ import annotations

HELD = (
    "a write of this key waits for its SQL commit, which nothing can in MULTI, a script or a function; send "
    "it alone"
)
QUEUED = (
    "writes of keys that begin as this one does wait for their SQL commit, which nothing can in MULTI; send "
    "it alone"
)
OTHER = (
    "this command can't wait for an SQL commit; change this key by HSET, HSETNX, HINCRBY, HINCRBYFLOAT, "
    "HDEL, DEL, UNLINK or EXPIRE"
)
DISOWNED = (
    "this server was a replica or was flushed meanwhile; whether the write came true is not "
    "known: read the key"
)
READ_ONLY = "-READONLY You can't write against a read only replica."
NO_MEMORY = "-OOM command not allowed when used memory > 'maxmemory'."
