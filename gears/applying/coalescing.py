"""What stands for many changes of one key: the last image, and how the row got there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from gears.applying import change as changes
from gears.applying.change import Change, Changes

NOTHING = b""
PLAIN = frozenset([changes.UPSERT, changes.REMOVED, changes.REPLACED, *changes.GONE])
"""Operations that are about one key and no more."""


def fold(before: bytes, op: bytes) -> bytes:
    """Return the operation that stands for ``op`` after ``before`` on one key (NOTHING: nothing before)."""
    if op == changes.UPSERT and before in (changes.REMOVED, changes.REPLACED, changes.EMPTIED):
        return before
    if before in changes.GONE and op in (changes.UPSERT, changes.REMOVED):
        return changes.REPLACED
    if op == changes.REMOVED and before != NOTHING:
        return changes.EMPTIED
    return op


def adds_to(change: Change, before: Change, op: bytes) -> bool:
    """Whether ``change`` leaves columns as ``before`` (under ``op``) wrote them: then both must be applied.

    So it is when the key went in between and its row was kept (evicted, by default), and is a hash again.
    """
    if change.op != changes.UPSERT or op in changes.GONE or change.fields == before.fields:
        return False
    return not set(before.fields) <= set(change.fields)


class Coalesced(NamedTuple):
    """The changes of a batch that stand for all of their key: ``places`` are theirs, ``keys`` their keys, and
    ``counts`` how many changes each key had (None: one each). ``others``: the places of changes that are to
    be looked at one after another.
    """

    places: Sequence[int]
    keys: Sequence[bytes]
    counts: Counter[bytes] | None
    others: Sequence[int]

    def count(self, indexes: Sequence[int]) -> int:
        """Return how many changes the keys at ``indexes`` had."""
        if self.counts is None:
            return len(indexes)
        return sum([self.counts[self.keys[index]] for index in indexes])


def coalesce(all_changes: Changes, ops: set[bytes], apart: Collection[bytes] = ()) -> Coalesced:
    """Find what needs no look at each change; ``ops`` are the operations that occur, all of them PLAIN.
    ``apart``: keys whose changes need one.
    """
    keys = all_changes.keys()
    latest = dict(zip(keys, range(len(keys))))
    if len(latest) == len(keys) and not apart:
        return Coalesced(range(len(keys)), keys, None, ())
    counts = Counter(keys)
    if ops == {changes.UPSERT} and not apart and _have_the_same_fields(all_changes):
        return Coalesced(list(latest.values()), list(latest), counts, ())
    places = [place for key, place in latest.items() if counts[key] == 1 and key not in apart]
    others = [place for place, key in enumerate(keys) if counts[key] > 1 or key in apart]
    return Coalesced(places, [keys[place] for place in places], None, others)


def _have_the_same_fields(all_changes: Changes) -> bool:
    first = all_changes.pairs[0][4::2]
    return [pairs[4::2] for pairs in all_changes.pairs].count(first) == len(all_changes)
