"""What the keys of a function are called."""

from __future__ import annotations

from gears.declaring import kinds
from gears.declaring.functions import Function

NOUNS = {
    kinds.HASH: ("hash", "hashes"),
    kinds.JSON: ("document", "documents"),
    kinds.SET: ("set", "sets"),
    kinds.LIST: ("list", "lists"),
    kinds.ZSET: ("sorted set", "sorted sets"),
}


def of(function: Function) -> tuple[str, str]:
    """Return the words for one and for many."""
    return NOUNS[function.mapping.type]
