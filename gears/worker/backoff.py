"""Waiting times between retries: exponential, capped, with full jitter."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
MOST_SECONDS = 30.0
FACTOR = 2.0


class Backoff:
    """The waits of one row of failures; ``reset`` after a success."""

    def __init__(self, first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> None:
        self._first = first
        self._most = most
        self.failures = 0

    def next_seconds(self) -> float:
        """Return how long to wait before the next try, in seconds; each call is one more failure."""
        ceiling = min(self._most, self._first * FACTOR ** min(self.failures, 60))
        self.failures += 1
        # Never near zero: many workers that lost one database must not come back at once and hammer it.
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 (no secret)

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0
