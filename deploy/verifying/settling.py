"""A closer look at keys that seem to differ: it may be lag only.

A mark is taken, then rows are read, then the hashes. What no change waits for by then, nor has come to SQL
since the mark, has just these two states, and a difference is one. All others are looked at again behind a
barrier, until they are the same, or differ with nothing waiting.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from deploy import barrier
from deploy.verifying.comparing import Comparer
from deploy.verifying.expected import EXTRA, Difference, Image, Row
from deploy.verifying.hashes import Hashes
from deploy.verifying.members import AT_ONCE, MembersComparer
from deploy.verifying.owners import Owner, Owners
from deploy.verifying.report import Counts, Named

BARRIER_SECONDS = 5.0
"""The longest wait for a barrier before all that is left is looked at again."""
PAUSE_SECONDS = 0.05
LOOKS = 3
"""How often a difference must be just the same, where nobody knows what is on its way,"""
APART_SECONDS = 1.0
"""and how long the looks are apart then."""


class Settings(NamedTuple):
    """``seconds``: how long one set of keys may take. ``named``: how many differences are named. ``kept``:
    why rows without a hash are no difference; empty: they are one. ``apart``: seconds between looks that
    must all show the same, for rows that others change too; 0: one look is enough where that is known.
    ``spared``: why such rows are not deleted; empty: they are.
    """

    deployment: str
    seconds: float
    named: int
    repair: bool
    kept: str = ""
    apart: float = 0.0
    spared: str = ""


class _Seen(NamedTuple):
    """What one look at a key has found."""

    image: Image
    row: Row
    difference: Difference | None


class Settler:
    """Settles what seems to differ, and repairs it through the change stream if that is wanted."""

    def __init__(
        self,
        hashes: Hashes,
        comparer: Comparer | MembersComparer,
        owners: Owners,
        counts: Counts,
        settings: Settings,
    ) -> None:
        self._hashes = hashes
        self._owners = owners
        self._comparer = comparer
        self._counts = counts
        self._settings = settings

    def settle(self, keys: Iterable[bytes]) -> None:
        """Count what of ``keys`` differs indeed, and repair it if that is wanted."""
        every = list(dict.fromkeys(keys))
        found, undecided = self._told(every)
        self._counts.undecided += len(undecided)
        self._counts.lagged += len(every) - len(found) - len(undecided)
        found = self._without_kept(found)
        owned = self._owned(found)
        self._counts.lagged += len(owned)
        found = {key: difference for key, difference in found.items() if key not in owned}
        named = {
            key: self._counts.add(key, difference, self._settings.named) for key, difference in found.items()
        }
        if not self._settings.repair:
            return
        if self._settings.spared:
            for key in [each for each in found if found[each].kind == EXTRA]:
                named.pop(key).reason = self._settings.spared
                del found[key]
        if found:
            self._repair(found, named)

    def _repair(self, found: dict[bytes, Difference], named: dict[bytes, Named]) -> None:
        self._hashes.recapture(self._settings.deployment, list(found))
        left, unknown = self._told(list(found))
        # Those that were written after the keys were looked through, and before their rows went.
        for owner in self._owned(found).values():
            owner.recapture()
        for key, each in named.items():
            if key not in left and key not in unknown:
                self._counts.repaired += 1
                each.repaired = True
            elif key in left:
                each.reason = left[key].reason or each.reason

    def _owned(self, found: dict[bytes, Difference]) -> dict[bytes, Owner]:
        """Return whose the rows are of which the own key is not there."""
        expected = {
            key: self._comparer.expecter.expect(key, None)
            for key, difference in found.items()
            if difference.kind == EXTRA
        }
        return self._owners.of({key: each.place for key, each in expected.items() if each.place is not None})

    def _without_kept(self, found: dict[bytes, Difference]) -> dict[bytes, Difference]:
        if not self._settings.kept:
            return found
        extra = [key for key, difference in found.items() if difference.kind == EXTRA]
        self._counts.kept += len(extra)
        return {key: difference for key, difference in found.items() if difference.kind != EXTRA}

    def _told(self, keys: list[bytes]) -> tuple[dict[bytes, Difference], set[bytes]]:
        """As ``_look_until_told``, of so many keys at a time as go into memory."""
        found: dict[bytes, Difference] = {}
        unknown: set[bytes] = set()
        at_once = AT_ONCE if isinstance(self._comparer, MembersComparer) else self._comparer.size.keys
        for start in range(0, len(keys), at_once):
            some, others = self._look_until_told(keys[start : start + at_once])
            found.update(some)
            unknown |= others
        return found, unknown

    def _look_until_told(self, keys: list[bytes]) -> tuple[dict[bytes, Difference], set[bytes]]:
        """Return the differences, and the keys of which nothing could be told in time."""
        found: dict[bytes, Difference] = {}
        seen: dict[bytes, tuple[int, _Seen]] = {}
        pending = set(keys)
        deadline = time.monotonic() + self._settings.seconds
        while pending:
            self._wait(deadline)
            looked, unsettled = self._look(list(pending))
            for key, each in looked.items():
                if each.difference is None:
                    pending.discard(key)
                elif key in unsettled:
                    seen.pop(key, None)
                else:
                    before = seen.get(key)
                    times = before[0] + 1 if before is not None and before[1] == each else 1
                    seen[key] = times, each
                    if times >= self._looks:
                        found[key] = each.difference
                        pending.discard(key)
            if pending and time.monotonic() > deadline:
                break
            if pending:
                time.sleep(self._pause)
        return found, pending

    @property
    def _looks(self) -> int:
        return 1 if self._hashes.tells_waiting and not self._settings.apart else LOOKS

    @property
    def _pause(self) -> float:
        if self._settings.apart:
            return self._settings.apart
        return PAUSE_SECONDS if self._hashes.tells_waiting else APART_SECONDS / 10

    def _wait(self, deadline: float) -> None:
        seconds = max(0.001, min(BARRIER_SECONDS, deadline - time.monotonic()))
        barrier.wait(self._hashes.shards, seconds, None, self._settings.deployment)

    def _look(self, keys: list[bytes]) -> tuple[dict[bytes, _Seen], set[bytes]]:
        """Look at keys once; return also those of which SQL may have been behind, or come after."""
        expecter = self._comparer.expecter
        if self._hashes.shards.kind == "cluster":
            self._hashes.refresh()
        tells = self._hashes.tells_waiting
        marks = self._hashes.mark() if tells else {}
        # A transform tells a row by what the key holds; else the key does.
        first = dict.fromkeys(keys) if tells and expecter.key_tells else self._hashes.now(keys)
        wanted = [expecter.expect(key, first[key]) for key in keys]
        rows = self._comparer.rows_of(keys, wanted)
        images, unsettled = (
            self._hashes.looked(keys, marks) if tells else (self._hashes.now(keys), set[bytes]())
        )
        looked = {}
        for key, before, row in zip(keys, wanted, rows):
            expected = expecter.expect(key, images[key])
            if expected.place != before.place or (not tells and images[key] != first[key]):
                unsettled.add(key)
            looked[key] = _Seen(images[key], row, expecter.difference(expected, row))
        return looked, unsettled
