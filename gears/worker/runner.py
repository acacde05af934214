"""One lane at work: a thread reads and prepares batches, another applies and acknowledges them."""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import redis

from connectors import (
    Connector,
    ConnectorError,
    Fenced,
    NotHandedOver,
    SchemaMismatch,
    TargetError,
    Unavailable,
)
from gears.applying import acknowledgments, deadletters, failpoints
from gears.applying.applier import Applier
from gears.applying.change import Change, Malformed, is_applied
from gears.applying.deadletters import Letter
from gears.applying.pipeline import Batch
from gears.applying.report import TargetReport
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function, Transform
from gears.worker import lanes
from gears.worker.backoff import MOST_SECONDS, Backoff
from gears.worker.earlier import Earlier
from gears.worker.holds import HoldsChanged
from gears.worker.lanes import Lane, Reading
from gears.worker.logs import FAULT, event
from gears.worker.memberstates import Members
from gears.worker.moves import Handover

log = logging.getLogger("gearsync.worker")

BLOCK_MS = 250
"""The longest wait for a first change: how late a stop is noticed."""
SHORTEST_WAIT_SECONDS = 0.002
"""For more changes to join a batch, before the next look."""
ON_ITS_WAY_SECONDS = 0.2
"""How long to wait for the slot of a lane before the next look."""


class Stopped(Exception):
    """The worker is asked to end, or this lane to start anew."""


class Replaced(Stopped):
    """A newer version is deployed: what it captured is not for the functions of this one."""


class Shared:
    """What the lanes of one worker have in common."""

    def __init__(
        self,
        url: str,
        deployment: Deployment,
        owner: str,
        open_connector: Callable[[str], Connector],
        transforms: dict[str, Transform],
    ) -> None:
        self.url = url
        self.deployment = deployment
        self.owner = owner
        self.open_connector = open_connector
        self.transforms = transforms
        self.earlier = Earlier(deployment, transforms)
        self.stop = threading.Event()
        self.fenced: str = ""
        # What the module holds back by now, as the heartbeat was told; see ``gears.worker.holds``.
        self.hold_number = 0


class LaneRunner:
    """Runs one lane until it is stopped, or, when ``until_empty``, until nothing waits in it."""

    most_backoff = MOST_SECONDS

    def __init__(
        self, shared: Shared, lane: Lane, epoch: int, report: TargetReport, until_empty: bool = False
    ) -> None:
        self._shared = shared
        self._lane = lane
        self._epoch = epoch
        self._report = report
        self._until_empty = until_empty
        self._halt = threading.Event()
        self._backoff = Backoff(most=self.most_backoff)
        self.thread = threading.Thread(target=self._run, name=lane.stream, daemon=True)

    def start(self) -> None:
        """Start the lane's threads."""
        self.thread.start()

    def halt(self) -> None:
        """Ask the lane to end after the batch in flight; ``thread.join`` waits for it."""
        self._halt.set()

    @property
    def _over(self) -> bool:
        return self._halt.is_set() or self._shared.stop.is_set()

    # -- The applying thread: sessions, one after each failure -------------------------------------------

    def _run(self) -> None:
        while not self._over:
            try:
                if self._session():
                    return
            except Replaced:
                self._shared.stop.set()
                return
            except Stopped:
                return
            except HoldsChanged:
                continue
            except Fenced as error:
                if self._has_moved():
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
                # A fault of ours. A lane whose thread has ended would stand still, and nobody would be told.
                trace = "".join(traceback.format_tb(error.__traceback__))
                log.error(
                    "%s: %s",
                    self._lane.stream,
                    trace,
                    extra=event(FAULT, lane=self._lane.stream, error=type(error).__name__),
                )
                self._wait(f"unexpected {type(error).__name__}: {error}")

    def _has_moved(self) -> bool:
        """Whether the lane is another shard's by now: what fences this one then is that shard's worker."""
        try:
            with lanes.connect(self._shared.url) as client:
                known = lanes.fetch_lanes(client, self._shared.deployment.name)
        except redis.RedisError:
            return False
        return all(lane.stream != self._lane.stream for lane in known.lanes)

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

    def _session(self) -> bool:
        """Claim the lane and work until something fails; True: the lane is done with."""
        shared, lane = self._shared, self._lane
        connector = shared.open_connector(lane.target)
        client = lanes.connect(shared.url)
        members = Members(shared.url, lane.stream)
        reading: ReadingThread | None = None
        try:
            applier = self._applier(connector, client, members)
            applier.open(lane.stream, self._epoch, shared.owner)
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

    def _ending(self) -> None:
        """The session ends, for whatever reason."""

    def _look(self, client: redis.Redis, reading: ReadingThread) -> None:
        """Between two batches, and some times a second. May raise HoldsChanged."""

    def _interrupt(self) -> None:
        """Before each try of a batch. May raise HoldsChanged."""

    def check(self, reader: lanes.Reader) -> None:
        """See that what was just read is for this version. Raises Replaced, HoldsChanged."""
        if reader.version(self.deployment.name) != self.deployment.version:
            raise Replaced

    def cut(self, read: Reading) -> bool:
        """Take off what is not to be applied in this session; whether there was any."""
        return False

    def sift(self, reader: lanes.Reader, changes: Sequence[Change]) -> Sequence[Change]:
        """Return those of the changes that are to be applied now. Raises HoldsChanged."""
        return changes

    # ------------------------------------------------------------------------------------------------------

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

        def bury(letters: Sequence[Letter]) -> None:
            self._bury(client, letters)

        earlier = shared.earlier.of_lane(client, origin or lane.stream, lane.target)
        words = connector, shared.deployment, lane.target, shared.transforms, self._report, bury
        return Applier(*words, earlier, None if members is None else members.fill, wanted, origin)

    def _apply_all(self, applier: Applier, client: redis.Redis, reading: ReadingThread) -> bool:
        while not self._over:
            self._look(client, reading)
            item = reading.take()
            if item is None:
                if self._until_empty and reading.idle and not client.xlen(self._lane.stream):
                    return True
                continue
            if item.malformed:
                self._bury(client, [deadletters.of_malformed(entry) for entry in item.malformed])
            self._tell(client, item.applied, None)
            if item.batch is not None:
                applied = self._apply(applier, item.batch)
                failpoints.reach("after-commit")
                self._tell(client, item.batch.changes, applied)
            failpoints.reach("before-ack")
            lanes.acknowledge(client, self._lane.stream, item.last_id)
            self._backoff.reset()
        return True

    def _bury(self, client: redis.Redis, letters: Sequence[Letter]) -> None:
        stored = deadletters.store(lanes.RedisCommands(client), self._lane.dead_stream, letters)
        self._report.count(dead_letters=stored)
        if stored:
            log.warning(
                "%s: %d changes are dead letters now; see gearsync deadletters list",
                self._lane.stream,
                stored,
                extra=event("dead_letters", lane=self._lane.stream, count=stored),
            )

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
        handover = self._handover(batch)
        whole = len(batch.changes)
        while not self._over:
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
                handover.wait(error.token)
            except Unavailable as error:
                self._wait(str(error))
                self._patiently(lambda: applier.claim(self._lane.stream, self._epoch, self._shared.owner))
                # Only the checkpoint knows whether the batch is in, or what another worker applied of it.
                left = [change for change in batch.changes if not is_applied(change, applier.position)]
                if not left:
                    return None
                if len(left) < len(batch.changes):
                    batch = applier.prepare(left)
                    handover = self._handover(batch)
            except SchemaMismatch as error:
                self._wait(str(error))
                self._patiently(applier.look_again)
        raise Stopped

    def _patiently(self, act: Callable[[], None]) -> None:
        """Do something with the database, again and again while it can't be done."""
        while not self._over:
            self._interrupt()
            try:
                return act()
            except (Unavailable, SchemaMismatch) as error:
                self._wait(str(error))
        raise Stopped

    def _handover(self, batch: Batch) -> Handover:
        shared, lane = self._shared, self._lane
        return Handover(shared.url, shared.deployment.name, lane.target, batch.marks, self._pause)

    def _pause(self, seconds: float, error: str) -> None:
        """Wait for something outside; an empty ``error`` is not worth telling yet."""
        if error:
            self._report.failed(self._lane.stream, error)
            lane = self._lane.stream
            log.warning("%s: %s", lane, error, extra=event("lane_waits", lane=lane, error=error))
        self._halt.wait(seconds)

    # -- What others ask ---------------------------------------------------------------------------------

    @property
    def goes_first(self) -> bool:
        """Whether the target's current lanes begin when this one is done."""
        return self._lane.retired and not self._lane.adopted

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


class Item:
    """What is read: a batch (None: all was applied before), entries that are no changes, and the last id.

    ``applied``: the changes that were applied before.
    """

    __slots__ = ("applied", "batch", "last_id", "malformed")

    def __init__(
        self, batch: Batch | None, malformed: list[Malformed], applied: Sequence[Change], last_id: str
    ) -> None:
        self.batch = batch
        self.malformed = malformed
        self.applied = applied
        self.last_id = last_id


class ReadingThread:
    """Reads a lane and prepares one batch ahead, so that Python works while the database does."""

    def __init__(self, runner: LaneRunner, applier: Applier) -> None:
        self._runner = runner
        self._applier = applier
        self._position = applier.position
        self._queue: queue.Queue[Item | BaseException] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        self._past = False
        self.idle = False
        self.parked = False
        self._thread = threading.Thread(target=self._run, name=f"read {runner.stream}", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def end(self) -> None:
        """Stop reading and wait for the thread."""
        self._ended.set()
        self._thread.join()

    def take(self) -> Item | None:
        """Return the next item; None when none came for a moment. Raises what reading raised."""
        try:
            item = self._queue.get(timeout=BLOCK_MS / 1000)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self) -> None:
        try:
            reader = lanes.Reader(self._runner.url, self._runner.stream)
            try:
                while not self._ended.is_set():
                    self._read_batch(reader)
            finally:
                reader.close()
        except BaseException as error:
            self._put(error)

    def _put(self, item: Item | BaseException) -> None:
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=BLOCK_MS / 1000)
                return
            except queue.Full:
                continue

    def _read_batch(self, reader: lanes.Reader) -> None:
        most, interval_ms = self._runner.limits
        read = Reading()
        self.idle = self.parked or not reader.read_into(read, most, BLOCK_MS)
        if self.idle:
            self._ended.wait(BLOCK_MS / 1000 if self.parked else 0)
            return
        began = time.monotonic()
        deadline = began + interval_ms / 1000
        while len(read) < most and not self._ended.is_set():
            if reader.read_into(read, most - len(read), 0):
                continue
            now = time.monotonic()
            if now >= deadline:
                break
            # Until they are as many as a batch takes, if they go on to come as they did: each look costs.
            rest = (now - began) * (most - len(read)) / len(read)
            time.sleep(min(deadline - now, max(rest, SHORTEST_WAIT_SECONDS)))
        reader.end_transaction(read)
        self._runner.check(reader)
        self.parked = self._runner.cut(read)
        if not len(read):
            return
        new = self._without_applied(read.changes)
        applied = self._runner.sift(reader, read.changes[: len(read.changes) - len(new)])
        new = self._runner.sift(reader, new)
        *firsts, last = self._applier.parts(new)
        malformed = read.malformed
        for part in firsts:
            self._put(Item(self._applier.prepare(part), malformed, applied, part[-1].id))
            malformed, applied = [], []
        self._put(Item(self._applier.prepare(last) if last else None, malformed, applied, read.last_id))

    def _without_applied(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Positions only grow along a lane: after the first new change, all are new."""
        if self._past:
            return changes
        first = 0
        while first < len(changes) and is_applied(changes[first], self._position):
            first += 1
        self._past = first < len(changes)
        return changes[first:] if first else changes


def unavailable_target(error: TargetError) -> Unavailable:
    """A target's variable or file is missing here: that can be mended while the worker waits."""
    return Unavailable(str(error))
