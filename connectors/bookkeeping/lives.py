"""Who claims streams: ``<worker>@<source>.<life>``. A source is a shard, and a life one time of its server as
a primary: ``<the epoch in which it began, in hex>-<what no other has>``.

Two lives have an epoch of one number when a server comes back twice from one saved state, or when two
replicas of one state are promoted, one after the other. What was applied in such an epoch was captured in the
other life, and nothing of this one.
"""

from __future__ import annotations

import re

_OWNER = re.compile(r"@([0-9a-f]+)(?:\.([0-9a-f]{1,16})-([0-9a-f]+))?\Z")


def source_of(owner: str) -> str:
    """Return the shard of an owner; empty: it tells none."""
    found = _OWNER.search(owner)
    return found[1] if found else ""


def life_of(owner: str) -> str:
    """Return the life of an owner, as a server tells its own; empty: it tells none."""
    found = _OWNER.search(owner)
    return f"{found[2]}-{found[3]}" if found and found[3] else ""


def began(owner: str, before: str) -> int | None:
    """Return the epoch in which the life of an owner began, if who claimed before was of another life of the
    same shard; None: of the same, or of none that is known.
    """
    own, other = _OWNER.search(owner), _OWNER.search(before)
    if own is None or other is None or own[1] != other[1] or not (own[3] and other[3]):
        return None
    return int(own[2], 16) if own[3] != other[3] else None
