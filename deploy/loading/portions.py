"""How many keys or rows go at once: many small ones, few large ones."""

from __future__ import annotations

from collections.abc import Sequence

FIRST = 100
"""How many there are while nobody knows how large they are."""
BYTES = 1 << 24
"""About what one command, or the reply to it, is to be: it stands in Redis' memory as well as here."""
LOOKED_AT = 16
"""One in so many is measured."""


class Size:
    """The number of keys or rows that go at once, at most ``most``. Several threads may share it: it needs to
    be about right.
    """

    def __init__(self, most: int) -> None:
        self.keys = min(FIRST, most)
        self._most = most

    def learn(self, values: Sequence[Sequence[bytes | None]]) -> None:
        """See how large some are, by the values of each."""
        seen = [sum(len(value) for value in each if value is not None) for each in values[::LOOKED_AT]]
        if seen:
            self.keys = max(1, min(self._most, BYTES * len(seen) // max(1, sum(seen))))
