"""Lanes of which functions are held back, because somebody has paused them alone (docs/design.md, "Pausing").

The lane's runner has their changes moved to a stream of their own, before it goes on with the others. When
a function is resumed, another runner applies what its stream holds, while what comes is still moved behind
it. Once that is nearly empty, the lane stands still for a moment: until all is applied that was moved, and
all of the lane up to there. Then the function goes on with the lane.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import redis

from connectors import Connector, Position
from connectors.bookkeeping import held as rows
from connectors.bookkeeping.checkpoint import HELD
from gears.applying import change as changes
from gears.applying import failpoints
from gears.applying.applier import Applier
from gears.applying.change import Change, is_applied
from gears.applying.report import TargetReport
from gears.applying.rules import Rules, of_target
from gears.worker import holds, lanes
from gears.worker.holds import Held, Holds, HoldsChanged
from gears.worker.lanes import Lane, Reading, Term
from gears.worker.memberstates import Members
from gears.worker.readahead import ReadingThread
from gears.worker.runner import LaneRunner
from gears.worker.shared import Shared
from gears.worker.sieve import Sieve
from gears.worker.succession import Mark, Turn
from gears.worker.through import EarlierIntents

log = logging.getLogger("gearsync.worker")

LOOK_SECONDS = 0.1
"""How often a lane looks how much is left of what it held."""


class HoldingRunner(LaneRunner):
    """Runs one lane, and what is held back of it."""

    def __init__(
        self, shared: Shared, lane: Lane, term: Term, report: TargetReport, until_empty: bool = False
    ) -> None:
        super().__init__(shared, lane, term, report, until_empty)
        self._holds = Holds(0, 0, ())
        self._sieve: Sieve | None = None
        self._runners: list[HeldRunner] = []
        self._looked = 0.0

    def _session(self) -> bool:
        with lanes.connect(self._shared.url) as client:
            intents = self._shared.earlier.intents(client, self._lane.stream)
            if intents is not None and not Mark(self._lane.stream, intents.upto).is_open(client):
                intents = None
        if intents is None:
            return super()._session()
        EarlierIntents(self, intents).settle()
        # What follows is another session's.
        return self.over

    @property
    def _held(self) -> tuple[Held, ...]:
        return self._holds.of_lane(self._lane.stream)

    def _applier(self, connector: Connector, client: redis.Redis, members: Members | None = None) -> Applier:
        self._holds = holds.fetch(client, self.deployment.name)
        # The session before is over, and this one applies nothing of them.
        self._report.holds(self._lane.stream, self._holds.number)
        names = {each.function for each in self._held}
        if not names:
            return super()._applier(connector, client, members)
        return self._applier_of(connector, client, members, lambda function: function.name not in names)

    def _dead_streams(self) -> dict[str, str]:
        return {**super()._dead_streams(), **{each.stream: each.dead_stream for each in self._held}}

    def _opened(self, connector: Connector, client: redis.Redis, applier: Applier) -> None:
        positions = self._positions(connector, client, applier)
        # From here on the streams are the same in Redis and in SQL, and nobody works on them yet.
        self._put_again(connector, client, applier)
        for each in self._held:
            # What the lane still has of before was perhaps never moved: a crash can have taken the copies.
            upto = positions[each.stream], applier.position
            if not each.paused and not each.length and self._is_past(client, upto):
                rows.end(connector, applier.claimed, each.stream)
                failpoints.reach("held-ended")
                holds.end(client, each, self._holds.number)
                log.info("%s: %s goes on with its lane", self._lane.stream, each.function)
                raise HoldsChanged
        earlier = self._shared.earlier.of_lane(client, self._lane.stream, self._lane.target)
        present = Rules(0, None, of_target(self.deployment, self._lane.target), {})
        most = self.deployment.batch
        if self._held:
            self._sieve = Sieve(self._held, positions, applier.position, [*earlier, present], most)
        else:
            self._sieve = None
        for each in self._held:
            if not each.paused:
                self._runners.append(HeldRunner(self._shared, self._lane, each, self._term, self._report))
                self._runners[-1].start()

    def _positions(self, connector: Connector, client: redis.Redis, applier: Applier) -> dict[str, Position]:
        """Return how far what is held is applied. Raises HoldsChanged when SQL knows of more."""
        stream = self._lane.stream
        positions = rows.positions(connector, stream)
        known = {each.stream for each in self._held}
        lost = [name for name in self._names(client) if _stream(stream, name) in positions.keys() - known]
        for name in lost:
            # A crash or a promotion has taken the pause, and the lane's own position is past its changes.
            log.warning("%s: the pause of %s is lost; what it held is applied now", stream, name)
            holds.open_again(client, stream, name)
        if lost:
            raise HoldsChanged
        new = known - positions.keys()
        for each in new:
            rows.begin(connector, applier.claimed, each)
        return rows.positions(connector, stream) if new else positions

    def _names(self, client: redis.Redis) -> set[str]:
        target = self._lane.target
        earlier = self._shared.earlier.of_lane(client, self._lane.stream, target)
        functions = [each for rules in earlier for each in rules.functions]
        return {each.name for each in [*functions, *of_target(self.deployment, target)]}

    def _is_past(self, client: redis.Redis, upto: Sequence[Position]) -> bool:
        """Whether all that waits in the lane stands behind these positions."""
        head = self._head(client)
        return head is None or not any(is_applied(head, each) for each in upto)

    def _head(self, client: redis.Redis) -> Change | None:
        page = lanes.RedisCommands(client).call("XRANGE", self._lane.stream, "-", "+", "COUNT", 1)
        found, malformed = changes.decode(page)
        if malformed:
            # It is read, and becomes a dead letter, before anything else.
            return Change(malformed[0].entry_id, b"", b"u0", (), [])
        return found[0] if found else None

    def _ending(self) -> None:
        for each in self._runners:
            each.halt()
        for each in self._runners:
            while each.thread.is_alive() and not self._shared.stop.is_set():
                each.thread.join(0.5)
            self._report.ended(each.stream)
        self._runners = []

    # -- While it runs -----------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        if self._shared.hold_number > self._holds.number:
            raise HoldsChanged

    def _look(self, client: redis.Redis, reading: ReadingThread) -> None:
        super()._look(client, reading)
        self._interrupt()
        now = time.monotonic()
        if self._sieve is None or not self._runners or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        fresh = holds.fetch(client, self.deployment.name)
        if fresh.number != self._holds.number or not all(each.thread.is_alive() for each in self._runners):
            raise HoldsChanged
        left = [each for each in fresh.of_lane(self._lane.stream) if not each.paused]
        if not self._sieve.closes:
            if any(each.length <= self.deployment.batch for each in left):
                raise HoldsChanged
        elif not any(each.length for each in left if each.stream in self._sieve.closes):
            head = self._head(client)
            if head is None or not self._sieve.covers(head):
                raise HoldsChanged

    def check(self, reader: lanes.Reader) -> None:
        now = holds.fetch(reader.client, self.deployment.name)
        self._see(now.version, now.digest, now.life)
        if now.number != self._holds.number:
            raise HoldsChanged

    def cut(self, read: Reading) -> bool:
        is_cut = super().cut(read)
        return (self._sieve is not None and self._sieve.cut(read)) or is_cut

    def sift(self, reader: lanes.Reader, all_changes: Sequence[Change]) -> Sequence[Change]:
        if self._sieve is None:
            return all_changes
        kept, taken = self._sieve.sift(all_changes)
        for each in self._held:
            if taken[each.stream]:
                failpoints.reach("before-hold")
                holds.move(reader.client, each, self._holds.number, taken[each.stream])
                failpoints.reach("after-hold")
        return kept


class HeldRunner(LaneRunner):
    """Applies what was held of one function in one lane."""

    def __init__(self, shared: Shared, lane: Lane, held: Held, term: Term, report: TargetReport) -> None:
        super().__init__(
            shared, lane._replace(stream=held.stream, dead_stream=held.dead_stream), term, report
        )
        self._of = lane
        self._function = held.function

    def _applier(self, connector: Connector, client: redis.Redis, members: Members | None = None) -> Applier:
        return self._applier_of(
            connector, client, members, lambda function: function.name == self._function, self._of.stream
        )

    def _find_turn(self, client: redis.Redis) -> Turn | None:
        # While anything is held, the number of lanes stays what it is.
        return None

    def _has_moved(self) -> bool:
        """Who has claimed it has claimed its lane: that one's runner tells."""
        return True


def _stream(lane: str, function: str) -> str:
    return f"{lane}{HELD}{holds.name_hash(function)}"
