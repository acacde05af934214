"""Acknowledgments: what a client finds in the stream that it named in the field ``#`` (docs/design.md).

One entry a target, once its change is in SQL or refused for good: ``status done``, or ``status failed``
with the reason as ``error``. At least once: a worker that can't know whether it has told tells again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gears.applying import change as changes
from gears.applying.change import Change
from gears.applying.slots import SLOTS, slot_of

KEPT_SECONDS = 3600
"""How long a stream stays that nobody deletes."""


class Acknowledgment(NamedTuple):
    """What is told of one change; ``error``: why it is refused, empty: it is in SQL."""

    id: str
    stream: bytes
    error: str

    def commands(self) -> list[list[Any]]:
        """Return the two commands that write it."""
        said: list[Any] = ["status", "failed", "error", self.error] if self.error else ["status", "done"]
        return [["XADD", self.stream, "*", *said], ["EXPIRE", self.stream, KEPT_SECONDS]]


def stream_of(key: bytes, ticket: bytes) -> bytes:
    """Return the stream for what followed the operation; it is in the slot of the key.

    A key that has a hash tag of its own would be in another slot than the same key in braces. So would one
    that has a closing brace and no tag: none can be the whole of it, so another of its slot stands before.
    """
    tag = _hash_tag(key)
    if not tag and b"}" in key:
        tag = b"%d" % _numbers()[slot_of(key)]
    return (b"{" + tag + b"}" if tag else b"") + b"{" + key + b"}" + ticket


def _hash_tag(key: bytes) -> bytes:
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return tag if opened and closed else b""


@functools.lru_cache(maxsize=None)
def _numbers() -> Sequence[int]:
    """Return for each slot the smallest number that is in it (operations.c has the same)."""
    found = [-1] * SLOTS
    left, number = SLOTS, 0
    while left:
        slot = slot_of(b"%d" % number)
        if found[slot] < 0:
            found[slot] = number
            left -= 1
        number += 1
    return found


def asked_for(all_changes: Sequence[Change]) -> list[Change]:
    """Return the changes whose clients want to be told."""
    if not any(b":" in meta for meta in changes.metas_of(all_changes)):
        return []
    return [change for change in all_changes if b":" in change[2] and _ticket(change)]


def of_changes(asking: Iterable[Change], refused: Mapping[str, str]) -> list[Acknowledgment]:
    """Return what is told of changes that ``asked_for`` gave; ``refused``: the reasons, by id."""
    return [
        Acknowledgment(each.id, stream_of(each.key, _ticket(each)), refused.get(each.id, ""))
        for each in asking
    ]


def _ticket(change: Change) -> bytes:
    if change.op == changes.UNREAD:
        return b""
    # Of what begins with no operation, all is kept, for the dead letter.
    return change.ticket[1:] if change.op == changes.REJECTED else change.ticket
