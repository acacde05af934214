"""How long changes took from the write to their commit in SQL: a histogram, right under addition."""

from __future__ import annotations

from typing import Any, Callable

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Upper bounds of the buckets, in seconds; beyond the last one there is no bound."""
MOST_LOOKED_AT = 64
"""Of how many changes of a batch the sum is made; of a larger one, that many stand for all."""


class LagHistogram:
    """Counts changes by their lag. Not for several threads at once."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS)
        self._count = 0
        self._sum = 0.0

    def add(self, now_ms: float, count: int, ms_at: Callable[[int], int]) -> None:
        """Add ``count`` changes that are in SQL now; ``ms_at`` gives the time of each, which grows.

        Both times are in milliseconds since 1970. A batch costs the same however large it is.
        """
        if count == 0:
            return
        oldest, newest = ms_at(0), ms_at(count - 1)
        for place, bound in enumerate(BOUNDS):
            since = now_ms - bound * 1000
            if since <= oldest:
                self._counts[place] += count
            elif since <= newest:
                self._counts[place] += count - _first_since(since, count, ms_at)
        self._count += count
        step = max(1, -(-count // MOST_LOOKED_AT))
        seen = [max(0.0, now_ms - ms_at(at)) for at in range(0, count, step)]
        self._sum += sum(seen) / len(seen) * count / 1000

    def document(self) -> dict[str, Any]:
        """Return JSON's types: how many were within each bound (``le``, seconds), all, and their sum."""
        return {
            "le": list(BOUNDS),
            "counts": list(self._counts),
            "count": self._count,
            "sum": round(self._sum, 6),
        }


def _first_since(ms: float, count: int, ms_at: Callable[[int], int]) -> int:
    """Return the place of the first change at ``ms`` or later; ``count``: there is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if ms_at(middle) < ms:
            low = middle + 1
        else:
            high = middle
    return low
