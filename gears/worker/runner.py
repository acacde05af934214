"""One lane at work: what its reading thread has prepared is applied and acknowledged here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import redis

from connectors import (
    Connector,
    ConnectorError,
    Fenced,
    NotHandedOver,
    SchemaMismatch,
    Unavailable,
)
from gears.applying import acknowledgments, deadletters, failpoints, remembered
from gears.applying.applier import Applier
from gears.applying.change import WENT, Change, Malformed, is_applied
from gears.applying.deadletters import Letter
from gears.applying.pipeline import Batch
from gears.applying.report import TargetReport
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.worker import claims, lanes, succession
from gears.worker.backoff import MOST_SECONDS, Backoff
from gears.worker.holds import HoldsChanged
from gears.worker.lanes import EpochPassed, Lane, Reading, Term
from gears.worker.logs import event
from gears.worker.memberstates import Members
from gears.worker.moving import moves
from gears.worker.moving.handover import Handover, Whose
from gears.worker.readahead import ReadingThread
from gears.worker.shared import Shared
from gears.worker.succession import Turn
from gears.worker.task import Task, fault

log = logging.getLogger("gearsync.worker")

ON_ITS_WAY_SECONDS = 0.2
"""How long to wait for the slot of a lane before the next look."""
EPOCH_SECONDS = 0.5
"""How late a stop is noticed while another epoch is waited for."""
TURN_SECONDS = 0.1
"""How often a lane looks whether what comes before it is in SQL."""


class Stopped(Exception):
    """The worker is asked to end, or this lane to start anew."""


class Replaced(Stopped):
    """Another version is deployed: what it captured is not for the functions of this one."""


class TurnOver(Exception):
    """What the lane waited for is in SQL: more of it may be applied."""


class LaneRunner(Task):
    """Runs one lane until it is stopped, or, when ``until_empty``, until nothing waits in it."""

    most_backoff = MOST_SECONDS

    def __init__(
        self, shared: Shared, lane: Lane, term: Term, report: TargetReport, until_empty: bool = False
    ) -> None:
        super().__init__(shared, lane.stream)
        self._lane = lane
        self._term = term
        self._report = report
        self._until_empty = until_empty
        self._backoff = Backoff(most=self.most_backoff)
        self._turn: Turn | None = None
        self._turned = 0.0

    # -- The applying thread: sessions, one after each failure -------------------------------------------

    def _run(self) -> None:
        while not self.over:
            try:
                if self._await_turn() and self._session():
                    return
            except Replaced:
                self._shared.stop.set()
                return
            except Stopped:
                return
            except (HoldsChanged, TurnOver):
                continue
            except EpochPassed:
                self._await_epoch()
                return
            except Fenced as error:
                if self._has_moved():
                    return
                if self._outlives(error):
                    self._await_epoch()
                    return
                self._shared.fenced = str(error)
                self._shared.stop.set()
                return
            except redis.exceptions.AskError:
                # MOVED too. Either the lane is new, and its slot is still on its way here, or both have left.
                self._report.failed(self._lane.stream, "the slot of its lane is on its way between shards")
                self._halt.wait(ON_ITS_WAY_SECONDS)
            except redis.RedisError as error:
                self._wait(f"Redis: {error}")
            except ConnectorError as error:
                self._wait(str(error))
            except Exception as error:
                self._wait(fault(error, self._lane.stream, lane=self._lane.stream))

    def _await_epoch(self) -> None:
        """The worker begins all lanes anew when it hears of the epoch."""
        while not self.over:
            self._halt.wait(EPOCH_SECONDS)

    def _has_moved(self) -> bool:
        """Whether the lane is another shard's by now: what fences this one then is that shard's worker."""
        try:
            with lanes.connect(self._shared.url) as client:
                known = lanes.fetch_lanes(client, self._shared.deployment.name)
        except redis.RedisError:
            return False
        return all(lane.stream != self._lane.stream for lane in known.lanes)

    def _outlives(self, fenced: Fenced) -> bool:
        """Whether who has claimed the lane has lost it since, so that this shard's epoch is raised above."""
        try:
            return claims.outlive(self._shared.url, self.deployment.name, fenced)
        except redis.RedisError as error:
            log.warning("fenced: %s; other shards can't be asked about it: %s", fenced, error)
            return False

    def _wait(self, error: str) -> None:
        """Say what is wrong (at growing intervals), and wait before the next try."""
        seconds = self._begin_wait(error)
        if not self._shared.stop.is_set():
            self._halt.wait(seconds)

    def _begin_wait(self, error: str) -> float:
        """Say what is wrong, and return how many seconds to wait."""
        seconds = self._backoff.next_seconds()
        self._report.failed(self._lane.stream, error)
        failures, lane = self._backoff.failures, self._lane.stream
        log.warning(
            "%s: %s; trying again in %.1f s (failure %d)",
            *(lane, error, seconds, failures),
            extra=event("lane_waits", lane=lane, error=error, failures=failures),
        )
        return seconds

    def _await_turn(self) -> bool:
        """Find out how far the lane may be applied for now; wait until that is anything at all.

        False: it is over before that.
        """
        with lanes.connect(self._shared.url) as client:
            self._turn = self._find_turn(client)
            while self._turn is not None and self._turn.upto == succession.HEAD and not self.over:
                self._halt.wait(TURN_SECONDS)
                if self._turn.is_over(client):
                    self._turn = self._find_turn(client)
        return not self.over

    def _find_turn(self, client: redis.Redis) -> Turn | None:
        return succession.turn_of(client, self.deployment.name, self._lane)

    def _session(self) -> bool:
        """Claim the lane and work until something fails; True: the lane is done with."""
        shared, lane = self._shared, self._lane
        connector = shared.open_connector(lane.target)
        client = lanes.connect(shared.url)
        members = Members(shared.url, lane.stream)
        reading: ReadingThread | None = None
        try:
            applier = self._applier(connector, client, members)
            applier.open(lane.stream, self._term.epoch, shared.owner)
            self._outrank(client, applier)
            self._opened(connector, client, applier)
            reading = ReadingThread(self, applier)
            reading.start()
            return self._apply_all(applier, client, reading)
        finally:
            if reading is not None:
                reading.end()
            self._ending()
            members.close()
            client.close()
            connector.close()

    # -- What runners of special lanes do besides (gears/worker/held.py) -------------------------------------

    def _opened(self, connector: Connector, client: redis.Redis, applier: Applier) -> None:
        """The lane is claimed, and nothing was read of it yet."""
        self._put_again(connector, client, applier)

    def _ending(self) -> None:
        """The session ends, for whatever reason."""

    def _look(self, client: redis.Redis, reading: ReadingThread) -> None:
        """Between two batches, and some times a second. May raise HoldsChanged, or TurnOver."""
        now = time.monotonic()
        if self._turn is None or not reading.parked or now - self._turned < TURN_SECONDS:
            return
        self._turned = now
        if self._turn.is_over(client):
            raise TurnOver

    def _interrupt(self) -> None:
        """Before each try of a batch. May raise HoldsChanged."""

    def check(self, reader: lanes.Reader) -> None:
        """See that what was just read is for this version and this claim.

        Raises Replaced, EpochPassed, HoldsChanged.
        """
        self._see(*reader.version(self.deployment.name))

    def _see(self, version: int, digest: str, life: str) -> None:
        if not self._shared.runs(version, digest):
            raise Replaced
        # What was captured in a later life goes under a claim that names it: the next claim would take a
        # position in that life's epochs for one of another life, and have all applied again.
        if life and self._term.life and life != self._term.life:
            raise EpochPassed

    def cut(self, read: Reading) -> bool:
        """Take off what is not to be applied in this session; whether there was any."""
        return self._turn is not None and read.cut(self._turn.covers)

    def sift(self, reader: lanes.Reader, changes: Sequence[Change]) -> Sequence[Change]:
        """Return those of the changes that are to be applied now. Raises HoldsChanged."""
        return changes

    # ------------------------------------------------------------------------------------------------------

    def _claim(self, applier: Applier) -> None:
        applier.claim(self._lane.stream, self._term.epoch, self._shared.owner)

    def _outrank(self, client: redis.Redis, applier: Applier) -> None:
        """Have another epoch where another life of this shard has claimed the lane in the same one.

        Raises EpochPassed when there is one.
        """
        if applier.claimed.is_doubled and claims.outrank(client, self.deployment.name, applier.claimed):
            raise EpochPassed

    def _applier(self, connector: Connector, client: redis.Redis, members: Members | None = None) -> Applier:
        return self._applier_of(connector, client, members)

    def _applier_of(
        self,
        connector: Connector,
        client: redis.Redis,
        members: Members | None,
        wanted: Callable[[Function], bool] | None = None,
        origin: str = "",
    ) -> Applier:
        """Return what applies the lane's changes of those functions that are wanted; None: of all."""
        shared, lane = self._shared, self._lane

        def bury(letters: Sequence[Letter]) -> Sequence[str]:
            return self._bury(client, self._lane.dead_stream, letters)

        earlier = shared.earlier.of_lane(client, origin or lane.stream, lane.target)
        words = connector, shared.deployment, lane.target, shared.transforms, self._report, bury
        if members is None:
            return Applier(*words, earlier, None, wanted, origin)
        return Applier(*words, earlier, members.fill, wanted, origin, members.portions)

    def _apply_all(self, applier: Applier, client: redis.Redis, reading: ReadingThread) -> bool:
        while not self.over:
            self._look(client, reading)
            item = reading.take()
            if item is None:
                if self._until_empty and reading.idle and not client.xlen(self._lane.stream):
                    return True
                continue
            if item.malformed:
                self._bury_malformed(client, item.malformed)
            self._tell(client, item.applied, None)
            self._renew(item.applied)
            if item.batch is not None:
                applied = self._apply(applier, item.batch)
                failpoints.reach("after-commit")
                self._tell(client, item.batch.changes, applied)
                self._renew(item.batch.marks)
            failpoints.reach("before-ack")
            lanes.acknowledge(client, self._lane.stream, item.last_id, self._term)
            self._backoff.reset()
        return True

    def _put_again(self, connector: Connector, client: redis.Redis, applier: Applier) -> None:
        """Put dead letters again that Redis has forgotten, before there can be any others."""
        dead_streams = self._dead_streams()

        def bury(stream: str, letters: Sequence[Letter]) -> Sequence[str]:
            return self._bury(client, dead_streams[stream], letters)

        pages = lanes.applied(client, self._lane.stream, applier.position)
        try:
            remembered.put_again(connector, applier.claimed, pages, bury, dead_streams.__contains__)
        except SchemaMismatch as error:
            # A right may be missing. The lane goes on, as it does where nothing can be remembered.
            log.warning("%s: what SQL remembers of dead letters can't be read: %s", self._lane.stream, error)

    def _dead_streams(self) -> dict[str, str]:
        """Return where the letters are, of this stream and of what is held back of it."""
        return {self._lane.stream: self._lane.dead_stream}

    def _bury_malformed(self, client: redis.Redis, malformed: Sequence[Malformed]) -> None:
        self._bury(client, self._lane.dead_stream, [deadletters.of_malformed(each) for each in malformed])

    def _bury(self, client: redis.Redis, stream: str, letters: Sequence[Letter]) -> Sequence[str]:
        stored, entries = deadletters.store(lanes.RedisCommands(client), stream, letters)
        self._report.count(dead_letters=stored)
        if stored:
            log.warning(
                "%s: %d changes are dead letters now; see gearsync deadletters list",
                self._lane.stream,
                stored,
                extra=event("dead_letters", lane=self._lane.stream, count=stored),
            )
        return entries

    def _tell(
        self, client: redis.Redis, all_changes: Sequence[Change], refused: dict[str, str] | None
    ) -> None:
        """Write the acknowledgments of changes that are in SQL, or refused; None: the letters know which."""
        asking = acknowledgments.asked_for(all_changes)
        if not asking:
            return
        if refused is None:
            asked = [(each.id, each.epoch) for each in asking]
            refused = deadletters.reasons(lanes.RedisCommands(client), self._lane.dead_stream, asked)
        untold = lanes.tell(client, acknowledgments.of_changes(asking, refused))
        if untold:
            log.warning(
                "%s: Redis refused %d acknowledgments: %s",
                *(self._lane.stream, len(untold), untold[0]),
                extra=event(
                    "acknowledgments_refused", lane=self._lane.stream, count=len(untold), error=untold[0]
                ),
            )

    def _apply(self, applier: Applier, batch: Batch) -> dict[str, str] | None:
        """Apply one batch for as long as it takes; return what was refused, None: the letters know."""
        handover = self._handover(applier, batch)
        whole = len(batch.changes)
        while not self.over:
            self._interrupt()
            try:
                batch = applier.commit(batch, handover.moves)
                if batch.skipped:
                    log.warning(
                        "%s: no function of this version covers %d changes; skipped",
                        self._lane.stream,
                        batch.skipped,
                        extra=event("changes_skipped", lane=self._lane.stream, count=batch.skipped),
                    )
                return batch.refused if len(batch.changes) == whole else None
            except NotHandedOver as error:
                handover.wait(error.tokens)
            except Unavailable as error:
                self._wait(str(error))
                self._patiently(lambda: self._claim(applier))
                # Only the checkpoint knows whether the batch is in, or what another worker applied of it.
                left = [change for change in batch.changes if not is_applied(change, applier.position)]
                if not left:
                    return None
                if len(left) < len(batch.changes):
                    batch = applier.prepare(left)
                    handover = self._handover(applier, batch)
            except SchemaMismatch as error:
                self._wait(str(error))
                self._patiently(applier.look_again)
        raise Stopped

    def _patiently(self, act: Callable[[], None]) -> None:
        """Do something with the database, again and again while it can't be done."""
        while not self.over:
            self._interrupt()
            try:
                return act()
            except (Unavailable, SchemaMismatch) as error:
                self._wait(str(error))
        raise Stopped

    def _renew(self, all_changes: Sequence[Change]) -> None:
        """Have keys captured anew that ended here, while their slots were on their way, and may be elsewhere.

        The worker there may have been ahead of this one, and so is behind it now.
        """
        for key in dict.fromkeys(change.key for change in all_changes if change.op == WENT):
            while not self.over:
                self._interrupt()
                try:
                    moves.renew(self._shared.url, key)
                    break
                except redis.RedisError as error:
                    self._pause(moves.RENEW_SECONDS, f"{key!r:.200} ended while its slot moved: {error}")

    def _handover(self, applier: Applier, batch: Batch) -> Handover:
        shared, lane = self._shared, self._lane
        whose = Whose(shared.deployment.name, lane.target, lane.stream)
        asker = shared.asker(lane.target)
        return Handover(whose, batch.marks, asker, applier.connector.not_handed_over, self._pause)

    def _pause(self, seconds: float, error: str) -> None:
        """Wait for something outside; an empty ``error`` is not worth telling yet."""
        if error:
            self._report.failed(self._lane.stream, error)
            lane = self._lane.stream
            log.warning("%s: %s", lane, error, extra=event("lane_waits", lane=lane, error=error))
        self._halt.wait(seconds)

    # -- What others ask ---------------------------------------------------------------------------------

    def goes_before(self, lane: Lane) -> bool:
        """Whether a current lane begins when this one, which had another name, is done."""
        return self._lane.retired and not self._lane.adopted and self._lane.total == lane.total

    @property
    def target(self) -> str:
        """The name of the target that the lane leads to."""
        return self._lane.target

    @property
    def owner(self) -> str:
        """Who claims the lane: a name that no other worker has."""
        return self._shared.owner

    @property
    def url(self) -> str:
        """The URL of the shard."""
        return self._shared.url

    @property
    def stream(self) -> str:
        """The lane's key in Redis."""
        return self._lane.stream

    @property
    def deployment(self) -> Deployment:
        """The deployment whose functions run."""
        return self._shared.deployment

    @property
    def limits(self) -> tuple[int, int]:
        """The most changes in a batch, and how long (ms) the first one waits for others."""
        return self._shared.deployment.batch, self._shared.deployment.interval_ms
