"""A lane whose clients wait: their writes in one SQL transaction (docs/design.md, "Write-through")."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import redis
from redis.crc import key_slot

from connectors import Connector, ConnectorError, Position, SchemaMismatch, Unavailable
from connectors.errors import Refused
from gears.applying import failpoints
from gears.applying.applier import Applier
from gears.applying.change import Change, is_applied, parsed_id
from gears.applying.groups import Groups, limits_of, limits_within
from gears.applying.intents import (
    LOST,
    Intent,
    Outcome,
    intents_of,
    is_intent,
    key_set_by,
    outcomes_of,
    runs_of,
)
from gears.worker import lanes, ownslots
from gears.worker.earlier import Intents
from gears.worker.lanes import Exchange, Intake, Reading, Settled
from gears.worker.logs import event
from gears.worker.moving.moves import is_lost
from gears.worker.readahead import BLOCK_MS
from gears.worker.runner import TURN_SECONDS, LaneRunner, Replaced
from gears.worker.succession import Mark

log = logging.getLogger("gearsync.worker")

MOST_BACKOFF_SECONDS = 1.0
"""Clients get errors until the database is tried again, so this is how late its return is noticed."""
DENY_SECONDS = 0.02
"""How often clients are told that the database is away."""
NOTHING = Position(0, 0, 0)


class ThroughRunner(LaneRunner):
    """Runs one lane of intents. One thread: a client waits for each step."""

    most_backoff = MOST_BACKOFF_SECONDS

    def _session(self) -> bool:
        shared, lane = self._shared, self._lane
        limits = self._limits()
        connector = shared.open_connector(lane.target, **limits)
        # Nobody waits for what changes without a client: given up and tried again, it would stay too slow.
        patient = shared.open_connector(lane.target, lock_seconds=limits["lock_seconds"])
        client = lanes.connect(shared.url)
        try:
            applier = self._applier(patient, client)
            connector.ensure_intents()
            applier.open(lane.stream, self._term.epoch, shared.owner)
            self._outrank(client, applier)
            self._put_again(connector, client, applier)
            last = self._redo(client, connector, applier.position)
            # A later life takes nothing of who has not begun in it.
            self._see_life(client)
            known = lanes.fetch_lanes(client, self.deployment.name)
            if not shared.runs(known.version, known.digest):
                # From here on only versions change: a lane that is made anew has another taker.
                raise Replaced
            return self._work(client, applier, Groups(connector, applier, last))
        except redis.ResponseError:
            # The module drops a lane of an earlier version as soon as it is empty.
            if self._until_empty and self._has_moved():
                return True
            raise
        finally:
            client.close()
            connector.close()
            patient.close()

    def _limits(self) -> dict[str, float]:
        return limits_of(self.deployment)

    def _see_life(self, client: redis.Redis) -> None:
        known = lanes.fetch_lanes(client, self.deployment.name)
        self._see(known.version, known.digest, known.life)

    def _work(self, client: redis.Redis, applier: Applier, groups: Groups) -> bool:
        exchange = lanes.Exchange(self._shared.url, self._lane.stream, self.owner)
        settled: Settled | None = None
        is_cut = False
        try:
            while not (self.over or is_cut):
                exchange.ask(settled, BLOCK_MS)
                trouble = _rest(groups)
                intake = exchange.answer()
                if settled is not None:
                    failpoints.reach("settled")
                settled = None
                if intake.version != self.deployment.version:
                    raise Replaced
                is_cut = self.cut(intake.reading)
                if len(intake.reading):
                    settled = self._take(client, exchange, applier, groups, intake)
                    self._backoff.reset()
                elif not is_cut and self._is_done(client):
                    return True
                if trouble is not None:
                    if settled is not None:
                        exchange.settle(settled)
                    raise trouble
            _settle(exchange, groups, settled)
        finally:
            exchange.close()
        if is_cut:
            self._await_rest(client)
        return self.over

    def _is_done(self, client: redis.Redis) -> bool:
        """Whether nothing is left to be done, and nothing to come, when nothing was read."""
        return self._until_empty and not client.xlen(self._lane.stream)

    def _await_rest(self, client: redis.Redis) -> None:
        """Wait until what follows may be applied, which another session does."""
        while self._turn is not None and not self.over and not self._turn.is_over(client):
            self._halt.wait(TURN_SECONDS)

    def _take(
        self, client: redis.Redis, exchange: Exchange, applier: Applier, groups: Groups, intake: Intake
    ) -> Settled | None:
        """Bring what was read to SQL; return what is still to be settled."""
        settled: Settled | None = None
        if intake.reading.malformed:
            self._bury_malformed(client, intake.reading.malformed)
        for run in runs_of(intake.reading.changes):
            of_clients = is_intent(run[0])
            for part in groups.parts(intents_of(run)) if of_clients else ():
                _settle(exchange, groups, settled)
                settled = _commit(exchange, groups, part, intake.alive)
            if not of_clients:
                _settle(exchange, groups, settled)
                settled = None
                self._apply_plain(client, applier, run)
        if settled is None and intake.reading.malformed:
            lanes.acknowledge(client, self._lane.stream, intake.reading.last_id, self._term)
        return settled

    def _apply_plain(self, client: redis.Redis, applier: Applier, run: Sequence[Change]) -> None:
        """Expiry, and what else changes such keys without a client that waits."""
        new = [change for change in run if not is_applied(change, applier.position)]
        for part in applier.parts(new) if new else []:
            self._apply(applier, applier.prepare(part))
        self._renew(run)
        lanes.acknowledge(client, self._lane.stream, run[-1].id, self._term)

    # -- After a crash -----------------------------------------------------------------------------------

    def _redo(self, client: redis.Redis, connector: Connector, position: Position) -> Position | None:
        """Bring Redis to what SQL has committed; return the position of the last transaction of intents."""
        stream = self._lane.stream
        # Before SQL is asked: a worker that had the lane before can do and take nothing more in Redis.
        lanes.redo(client, stream, NOTHING, self.owner, [])
        applied = lanes.fetch_applied(client, stream)
        found = [(stream, each) for each in connector.committed(stream, applied)]
        forgotten = self._forgotten_lanes(client, connector, applied.epoch)
        for other in forgotten:
            # Should its worker live on: it commits nothing more there.
            connector.claim(other, self._term.epoch, self._shared.owner)
            since = Position(applied.epoch + 1, -1, -1)
            found += [(other, each) for each in connector.committed(other, since)]
        slots = ownslots.leaving(client) if found else frozenset()
        for lane, transaction in sorted(found, key=lambda each: each[1].position):
            outcomes = [_marked(client, slots, each) for each in outcomes_of(transaction.record)]
            if lane != stream:
                # Nobody waits for these here, so no id is to be found.
                outcomes = [each._replace(id="0-0") for each in outcomes if each.command]
                lanes.redo(client, stream, applied, self.owner, outcomes)
                continue
            if transaction.previous is not None and transaction.previous > applied:
                self._tell_lost(applied, transaction.previous)
            lanes.redo(client, stream, transaction.position, self.owner, outcomes)
            failpoints.reach("redo")
            applied = transaction.position
        for other in forgotten:
            connector.forget_intents(other)
        return connector.last_intent(stream)

    def _forgotten_lanes(self, client: redis.Redis, connector: Connector, epoch: int) -> list[str]:
        """Return lanes that took this one's place, under another tag, before a promotion forgot of it.

        A change of the tag raises the epoch, and new lanes begin with it: so those of before have older
        epochs than this lane has applied.
        """
        start, end, tail = self._lane.stream.partition("}")
        if self._lane.retired or not end:
            return []
        known = {each.stream for each in lanes.fetch_lanes(client, self.deployment.name).lanes}
        found = connector.intent_streams((start[: start.index("{") + 1], end + tail), epoch)
        return [each for each in found if each not in known and each.count("}") == 1]

    def _tell_lost(self, applied: Position, since: Position) -> None:
        log.error(
            "%s: Redis has forgotten more than SQL has records of: writes after %d-%d, up to %d-%d, are in "
            "SQL, and perhaps not in Redis; gearsync load brings missing keys back",
            self._lane.stream,
            applied.ms,
            applied.seq,
            since.ms,
            since.seq,
            extra=event("records_lost", lane=self._lane.stream),
        )

    # -- While the database is away ----------------------------------------------------------------------

    def _wait(self, error: str) -> None:
        """Wait for the next try; clients who ask meanwhile are told at once."""
        seconds = self._begin_wait(error)
        deadline = time.monotonic() + seconds
        try:
            with lanes.connect(self._shared.url) as client:
                while not self.over and time.monotonic() < deadline:
                    lanes.deny(client, self._lane.stream, f"nothing was written: {error}")
                    self._halt.wait(DENY_SECONDS)
        except redis.RedisError as failure:
            log.debug("%s: %s", self._lane.stream, failure)
            self._halt.wait(max(0.0, deadline - time.monotonic()))


class EarlierIntents(ThroughRunner):
    """What a version that was write-through has left in a lane: its clients wait yet, or SQL has committed
    what Redis has not. In the thread of who runs the lane, that of a version which is not.
    """

    def __init__(self, of: LaneRunner, intents: Intents) -> None:
        super().__init__(of._shared, of._lane, of._term, of._report)
        self._halt, self._turn = of._halt, of._turn
        self._intents = intents

    def settle(self) -> None:
        """Bring it to SQL and to Redis, as far as the lane's turn goes. Raises what a session raises."""
        self._session()

    def cut(self, read: Reading) -> bool:
        is_cut = super().cut(read)
        return read.cut(lambda change: parsed_id(change.id) <= self._intents.upto) or is_cut

    def _limits(self) -> dict[str, float]:
        return limits_within(self._intents.timeout_ms)

    def _is_done(self, client: redis.Redis) -> bool:
        return not Mark(self._lane.stream, self._intents.upto).is_open(client)


def _marked(client: redis.Redis, slots: frozenset[int], outcome: Outcome) -> Outcome:
    """Have a key made here that Redis has forgotten while its slot is on its way: no command does that.

    Not if it has left: what the new shard has is as new, or newer.
    """
    key = key_set_by(outcome.command)
    if key is None or key_slot(key) not in slots:
        return outcome
    try:
        return outcome._replace(command=LOST + outcome.command) if is_lost(client, key) else outcome
    except redis.exceptions.NoPermissionError as error:
        log.warning(
            "key %r is in SQL, and its slot is on its way: whether Redis has it can't be asked (%s); run "
            "gearsync verify once the slots have moved",
            *(key[:200], error),
            extra=event("not_asked", error=str(error)),
        )
        return outcome


def _settle(exchange: Exchange, groups: Groups, settled: Settled | None) -> None:
    """Settle what was not settled yet, alone."""
    if settled is not None:
        exchange.settle(settled)
        groups.tell()


def _rest(groups: Groups) -> ConnectorError | None:
    """Do what can wait while the clients of the last group get their replies.

    Returns what is in the way in SQL: those who are taken by now are told first, by the group that meets it.
    """
    groups.tell()
    try:
        groups.prune()
    except ConnectorError as error:
        return error
    return None


def _commit(
    exchange: Exchange, groups: Groups, intents: Sequence[Intent], alive: frozenset[bytes]
) -> Settled:
    """Commit the intents whose clients wait; return what the module is to be told."""
    taken = [intent for intent in intents if intent.entries[-1].entry_id in alive]
    last_id = intents[-1].id
    failpoints.reach("taken")
    try:
        outcomes = groups.commit(taken, taken[-1].entries[-1].position) if taken else []
    except (Unavailable, Refused, SchemaMismatch) as error:
        # Who is fenced leaves them to the next worker, who asks SQL, as after an error in COMMIT.
        if not (isinstance(error, Unavailable) and error.in_commit):
            refused = [(each.id, f"nothing was written: {error}") for each in taken]
            exchange.settle(Settled(last_id, refused))
        raise
    failpoints.reach("after-commit")
    return Settled(last_id, [(each.id, each.reason) for each in outcomes if each.reason])
