"""Servers on which RedisGears can't capture; on both sides of the upload."""

from __future__ import annotations

WRONG_SLOTS = (
    "a cluster of Redis 7.4 or newer files a lane that is written during a client's command under the slot "
    "of that command's key, and can't load its data again; use the gearsync module there"
)


def files_wrongly(version: str, is_cluster: bool) -> bool:
    """Whether WRONG_SLOTS is true of a server, by ``redis_version`` and whether it is a cluster's node."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return is_cluster and (major, minor) >= (7, 4)
