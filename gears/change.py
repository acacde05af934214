"""A change as it stands in a lane (docs/design.md, "A change as a stream entry")."""

from __future__ import annotations

from typing import NamedTuple

from connectors import Position

UPSERT, REMOVED, REPLACED = b"u", b"r", b"n"
DELETED, EXPIRED, EVICTED, FLUSHED = b"d", b"x", b"v", b"f"
GONE = (DELETED, EXPIRED, EVICTED)
OPERATIONS = frozenset((UPSERT, REMOVED, REPLACED, DELETED, EXPIRED, EVICTED, FLUSHED))


class MalformedChange(ValueError):
    """A stream entry that the module can't have written."""


class Change(NamedTuple):
    """One change. ``fields`` and ``values`` are the image, side by side; both empty when the key is gone."""

    position: Position
    key: bytes
    op: bytes
    fields: tuple[bytes, ...]
    values: list[bytes]

    @property
    def id(self) -> str:
        """The stream id."""
        return f"{self.position.ms}-{self.position.seq}"

    @property
    def image(self) -> dict[bytes, bytes]:
        """The image as field → value."""
        return dict(zip(self.fields, self.values))


def decode(entry_id: bytes, pairs: list[bytes]) -> Change:
    """Read one entry of a lane: its id and its pairs, flat. Raises MalformedChange."""
    try:
        ms, _, seq = entry_id.partition(b"-")
        meta = pairs[3]
        op = meta[:1]
        if op not in OPERATIONS or len(pairs) % 2 != 0:
            raise MalformedChange(f"entry {entry_id.decode('latin-1')} of the lane is no change")
        position = Position(int(meta[1:], 16), int(ms), int(seq))
        return Change(position, pairs[1], op, tuple(pairs[4::2]), pairs[5::2])
    except (IndexError, ValueError, TypeError) as error:
        raise MalformedChange(
            f"entry {entry_id.decode('latin-1')} of the lane is no change: {error}"
        ) from error
