"""A change as it stands in a lane (docs/design.md, "A change as a stream entry")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from connectors import Position

UPSERT, REMOVED, REPLACED = b"u", b"r", b"n"
DELETED, EXPIRED, EVICTED, FLUSHED = b"d", b"x", b"v", b"f"
GONE = (DELETED, EXPIRED, EVICTED)
OPERATIONS = frozenset((UPSERT, REMOVED, REPLACED, DELETED, EXPIRED, EVICTED, FLUSHED))


class MalformedChange(ValueError):
    """A stream entry that the module can't have written."""


class Change(NamedTuple):
    """One change, as its entry has it. ``fields`` and ``values`` are the image, side by side; both are empty
    when the key is gone. ``meta`` is the operation and the epoch.
    """

    entry_id: bytes
    key: bytes
    meta: bytes
    fields: tuple[bytes, ...]
    values: list[bytes]

    @property
    def op(self) -> bytes:
        """The operation: one of the constants above."""
        return self.meta[:1]

    @property
    def position(self) -> Position:
        """Where the change stands. Computed, because only few of a batch are ever asked."""
        ms, _, seq = self.entry_id.partition(b"-")
        return Position(int(self.meta[1:], 16), int(ms), int(seq))

    @property
    def id(self) -> str:
        """The stream id."""
        return self.entry_id.decode("ascii")

    @property
    def image(self) -> dict[bytes, bytes]:
        """The image as field → value."""
        return dict(zip(self.fields, self.values))


def decode(entries: Sequence[tuple[bytes, list[bytes]]]) -> list[Change]:
    """Read entries of a lane, each its id and its pairs, flat. Raises MalformedChange."""
    new = tuple.__new__
    try:
        changes = [
            new(Change, (entry_id, pairs[1], pairs[3], tuple(pairs[4::2]), pairs[5::2]))
            for entry_id, pairs in entries
        ]
    except (IndexError, TypeError) as error:
        raise MalformedChange(f"an entry of the lane is no change: {error}") from error
    for change in changes:
        if change[2][:1] not in OPERATIONS or len(change[3]) != len(change[4]):
            raise MalformedChange(f"entry {change.id} of the lane is no change")
    return changes
