"""How many keys are read at once: many small ones, few large ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.verifying.expected import Image

FIRST = 100
"""How many there are while nobody knows how large they are."""
MOST = 2000
BYTES = 1 << 24
"""About what the reply to one command is to be: it stands in Redis' memory as well as here."""
LOOKED_AT = 16
"""One key in so many is measured."""


class Size:
    """The number of keys that go at once. Several threads may share it: it needs to be about right."""

    def __init__(self) -> None:
        self.keys = FIRST

    def learn(self, images: Sequence[Image]) -> None:
        """See how large keys are."""
        seen = [_bytes_of(each) for each in images[::LOOKED_AT] if each is not None]
        if seen:
            self.keys = max(1, min(MOST, BYTES * len(seen) // max(1, sum(seen))))


def _bytes_of(image: Iterable[bytes | None]) -> int:
    return sum(len(value) for value in image if value is not None)
