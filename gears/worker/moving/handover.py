"""The waiting for keys of a batch that came from other shards, until those have brought their changes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connectors import ConnectorError
from gears.applying.change import Change
from gears.worker.logs import event
from gears.worker.moving.asking import Asker
from gears.worker.moving.circles import Link, circle, wrong
from gears.worker.moving.moves import SLOT, Waiting, of_marks, slot_move, token

log = logging.getLogger("gearsync.worker")

WAIT_SECONDS = 0.1
"""How long to wait for a key's old shard before the next look. Keys that went to and fro make long chains of
lanes, each of which waits for the one before it, so that it adds up."""
ASK_SECONDS = 5.0
"""After this long without a token, the other shards are asked whether there will be one."""
OTHER_LANES_SECONDS = 600.0
"""So long marks of a slot are waited for that are in lanes of another number than this shard has: one of a
later move of the slot could stand behind what this lane has yet to give."""
_UNKNOWN = "no shard has changes of %s that came before its move; going on"
_CIRCLE = (
    "%s: lanes wait for each other in a circle, in which %s waits for changes that came after its own, "
    "because what came before was lost in a promotion; going on"
)


class Whose(NamedTuple):
    """Which lane waits, of which target and deployment."""

    deployment: str
    target: str
    lane: str


class Handover:
    """The keys of one batch that another shard must let go first, and the waiting for it.

    ``moves`` are the batch's tokens, less those that will never come. ``look`` returns which of some tokens
    are not there. ``pause(seconds, why)`` waits.
    """

    def __init__(
        self,
        whose: Whose,
        marks: Sequence[Change],
        asker: Asker,
        look: Callable[[Sequence[str]], Sequence[str]],
        pause: Callable[[float, str], None],
    ) -> None:
        self._lane = whose.lane
        self._marks = {token(whose.deployment, whose.target, mark): mark for mark in marks}
        self._asker = asker
        self._look = look
        self._pause = pause
        self._begun = self._since = time.monotonic()
        self._ask_at = self._begun + ASK_SECONDS
        self._where = ""
        self._doubted: set[str] = set()
        self._circle: list[Link] = []
        self._is_to_leave = False
        self.moves = of_marks(whose.deployment, whose.target, marks)

    def wait(self, missing: Sequence[str]) -> None:
        """Wait a while for tokens that were not there; find out whether they will come at all."""
        if time.monotonic() > self._ask_at:
            self._ask(missing)
        why = (
            f"{self._named(missing[0])} came from another shard, which has not brought its changes to SQL yet"
        )
        is_worth_telling = time.monotonic() > self._begun + ASK_SECONDS / 2
        self._pause(WAIT_SECONDS, why + self._where if is_worth_telling else "")

    def _ask(self, missing: Sequence[str]) -> None:
        answer = self._asker.since(self._since, bool(self._doubted) or self._is_to_leave)
        if answer is None:
            return
        self._since = self._ask_at = answer.ended + ASK_SECONDS
        if answer.waiting is None:
            self._where = f": a shard can't be asked ({answer.error})"
            return
        places = answer.waiting.places()
        lane = places.get(missing[0])
        self._where = f": they wait in {lane} of {answer.waiting.addresses[lane]}" if lane else ""
        is_patient = answer.ended < self._begun + OTHER_LANES_SECONDS
        others = answer.waiting.slots if is_patient else frozenset()
        self._doubt(
            [each for each in missing if each not in places and slot_move(self._marks[each]) not in others]
        )
        self._look_for_circle(answer.waiting, missing)

    def _doubt(self, nowhere: Sequence[str]) -> None:
        """No shard knows of these moves. The tokens may have come meanwhile, or a lane that has them was on
        its way to another shard: only at the second time they will never come.
        """
        for each in nowhere:
            if each in self._doubted:
                log.warning(_UNKNOWN, self._named(each), extra=event("move_unknown", error=self._named(each)))
                self._go_on_without(each)
        self._doubted = set(nowhere)

    def _look_for_circle(self, waiting: Waiting, missing: Sequence[str]) -> None:
        """Leave a circle, at the second time, by the one lane in it that waits for the wrong mark."""
        lane = self._lane
        came = [mark.token for marks in waiting.marks.values() for mark in marks if mark.came]
        if lane not in waiting.marks:
            return
        try:
            given = Counter(came) - Counter(self._look(came))
        except ConnectorError as error:
            log.debug("%s: the database can't tell which keys were let go: %s", lane, error)
            return
        links = circle(waiting.marks, given, lane)
        is_known = links == self._circle
        self._circle = links
        self._is_to_leave = bool(links) and links[0].waits.token in missing and wrong(links) == links[0]
        if self._is_to_leave and is_known:
            found = links[0].waits.token
            told = event("move_circle", lane=lane, error=self._named(found))
            log.warning(_CIRCLE, lane, self._named(found), extra=told)
            self._go_on_without(found)

    def _named(self, its_token: str) -> str:
        """Return what a mark is about: a slot (gearsync:slot:<number>:…), else a key."""
        key = self._marks[its_token].key
        return f"slot {key.split(b':')[2].decode()}" if key.startswith(SLOT) else f"key {key!r}"

    def _go_on_without(self, missing: str) -> None:
        taken = list(self.moves.taken)
        taken.remove(missing)
        self.moves = self.moves._replace(taken=tuple(taken))
