"""How the keys, the session and the trigger of a deployment are called; on both sides of the upload."""

from __future__ import annotations

LANE = "gearsync:lane:"
DEAD = "gearsync:dead:"
LATE = "gearsync:late:"
THROUGH = "gearsync:through:"
PAUSE = "gearsync:pause:"
VERSIONS = "gearsync:versions:"
ALL = (LANE, DEAD, LATE, THROUGH, PAUSE, VERSIONS)
"""How the keys of deployments begin, whose name comes next."""

OWN_KEYS = b"gearsync:"

SEPARATOR = "\x1f"
"""Stands between the parts of an entry of one pair."""
NOT_TEXT = "l"
"""Stands for the label m in an entry whose names of fields are written one character a byte, since one is no
UTF-8: RedisGears crashes when it makes a dict of such an entry."""


def lane_prefix(deployment: str, target: str) -> str:
    """Return how the lanes of a target begin on every shard: RedisGears finds them by that."""
    return f"{LANE}{deployment}:{target}:"


def late_prefix(deployment: str) -> str:
    """Return how the marks of operations begin that are not in the AOF yet (operations.py)."""
    return f"{LATE}{deployment}:"


def through_prefix(deployment: str, target: str) -> str:
    """Return how the key begins that says how far the writes of waiting clients are applied; with the shard's
    tag and source it names them in SQL as well.
    """
    return f"{THROUGH}{deployment}:{target}:"


def pause_prefix(deployment: str) -> str:
    """Return how the key begins that says that a deployment is paused."""
    return f"{PAUSE}{deployment}:"


def versions_prefix(deployment: str) -> str:
    """Return how the key begins that holds the versions of a deployment."""
    return f"{VERSIONS}{deployment}:"


def dead_of(lane: str) -> str:
    """Return the dead-letter stream of a lane."""
    return DEAD + lane[len(LANE) :]


def family(deployment: str) -> str:
    """Return how the names begin under which Python inside RedisGears knows a deployment's versions."""
    return f"gearsync_runtime:{deployment}:"


def session(deployment: str) -> str:
    """Return RedisGears' id of a deployment's session, which is its trigger as well."""
    return f"gearsync-{deployment}"
