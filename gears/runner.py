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
    Claim,
    Connector,
    ConnectorError,
    Fenced,
    Moves,
    NotHandedOver,
    Position,
    Refusal,
    SchemaMismatch,
    TargetError,
    Unavailable,
)
from gears import deadletters, failpoints, lanes
from gears.backoff import Backoff
from gears.change import Change, Malformed
from gears.conversion import Converter
from gears.deadletters import Letter
from gears.deployment import Deployment
from gears.functions import Transform
from gears.lanes import Lane, Reading
from gears.moves import Handover
from gears.pipeline import Batch, faults_of, letters_of, parts_of
from gears.report import TargetReport

log = logging.getLogger("gearsync.worker")

BLOCK_MS = 250
"""The longest wait for a first change: how late a stop is noticed."""
LOOKING_SHARE = 0.1
"""Rows that don't fit make the worker look at the tables again, for at most this share of its time."""


class Stopped(Exception):
    """The worker is asked to end, or this lane to start anew."""


class Unexpected(Exception):
    """Something is refused by columns that may be others by now; nothing was committed."""


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
        self.stop = threading.Event()
        self.fenced: str = ""


class LaneRunner:
    """Runs one lane until it is stopped, or, when ``until_empty``, until nothing waits in it."""

    def __init__(
        self, shared: Shared, lane: Lane, epoch: int, report: TargetReport, until_empty: bool = False
    ) -> None:
        self._shared = shared
        self._lane = lane
        self._epoch = epoch
        self._report = report
        self._until_empty = until_empty
        self._halt = threading.Event()
        self._backoff = Backoff()
        self._converters: list[Converter] = []
        self._looked = 0.0
        self._look_seconds = 0.0
        self._told = ""
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
            except Fenced as error:
                self._shared.fenced = str(error)
                self._shared.stop.set()
                return
            except redis.RedisError as error:
                self._wait(f"Redis: {error}")
            except ConnectorError as error:
                self._wait(str(error))
            except Exception as error:
                # A fault of ours. A lane whose thread has ended would stand still, and nobody would be told.
                log.error("%s: %s", self._lane.stream, "".join(traceback.format_tb(error.__traceback__)))
                self._wait(f"unexpected {type(error).__name__}: {error}")

    def _wait(self, error: str) -> None:
        """Say what is wrong (at growing intervals), and wait before the next try."""
        seconds = self._backoff.next_seconds()
        self._report.failed(self._lane.stream, error)
        if error != self._told or self._backoff.should_tell():
            log.warning(
                "%s: %s; trying again in %.1f s (failure %d)",
                self._lane.stream,
                error,
                seconds,
                self._backoff.failures,
            )
        self._told = error
        if not self._shared.stop.is_set():
            self._halt.wait(seconds)

    def _session(self) -> bool:
        """Claim the lane and work until something fails; True: the lane is done with."""
        connector = self._shared.open_connector(self._lane.target)
        client = lanes.connect(self._shared.url)
        reading: ReadingThread | None = None
        try:
            connector.ensure_checkpoint()
            self._build_converters(connector)
            claim = self._claim(connector)
            reading = ReadingThread(self, claim.position)
            reading.start()
            return self._apply_all(connector, client, claim, reading)
        finally:
            if reading is not None:
                reading.end()
            client.close()
            connector.close()

    def _claim(self, connector: Connector) -> Claim:
        claim = connector.claim(self._lane.stream, self._epoch, self._shared.owner)
        self._report.claimed(self._lane.stream)
        return claim

    def _build_converters(self, connector: Connector) -> None:
        self._looked = time.monotonic()
        self._converters = [
            Converter(function, self._shared.transforms.get(function.name), connector)
            for function in self._shared.deployment.functions
            if function.target_name == self._lane.target
        ]
        self._look_seconds = time.monotonic() - self._looked

    def prepare(self, changes: Sequence[Change]) -> Batch:
        """Prepare a batch with the columns as they are known now."""
        return Batch(changes, self._converters)

    def _apply_all(
        self, connector: Connector, client: redis.Redis, claim: Claim, reading: ReadingThread
    ) -> bool:
        while not self._over:
            item = reading.take()
            if item is None:
                if self._until_empty and reading.idle and not client.xlen(self._lane.stream):
                    return True
                continue
            if item.malformed:
                self._bury(client, [deadletters.of_malformed(entry) for entry in item.malformed])
            if item.batch is not None:
                claim = self._apply(connector, client, claim, item.batch)
                failpoints.reach("after-commit")
            failpoints.reach("before-ack")
            lanes.acknowledge(client, self._lane.stream, item.last_id)
            self._backoff.reset()
        return True

    def _bury(self, client: redis.Redis, letters: list[Letter]) -> None:
        stored = deadletters.store(client, self._lane.dead_stream, letters)
        self._report.count(dead_letters=stored)
        if stored:
            log.warning(
                "%s: %d changes are dead letters now; see gearsync deadletters list",
                self._lane.stream,
                stored,
            )

    def _apply(self, connector: Connector, client: redis.Redis, claim: Claim, batch: Batch) -> Claim:
        """Apply one batch for as long as it takes; returns the claim under which the next one goes."""
        handover = self._handover(batch)
        fresh = False
        while not self._over:
            try:
                if batch.converters is not self._converters:
                    # It was prepared while the tables were looked at.
                    batch = self.prepare(batch.changes)
                fresh = fresh or not self._may_be_outdated()
                if batch.faults and not fresh:
                    raise Unexpected
                self._commit(connector, client, claim, batch, handover.moves, fresh)
                return claim
            except NotHandedOver as error:
                handover.wait(error.token)
            except Unavailable as error:
                self._wait(str(error))
                fresh = False
                claim = self._claim_again(connector)
                # Only the checkpoint knows whether the batch is in, or what another worker applied of it.
                left = [change for change in batch.changes if change.position > claim.position]
                if not left:
                    return claim
                if len(left) < len(batch.changes):
                    batch = self.prepare(left)
                    handover = self._handover(batch)
            except Unexpected:
                batch = self._look_again(connector, batch)
                # Once is enough, however long the database takes to refuse it all.
                fresh = True
            except SchemaMismatch as error:
                self._wait(str(error))
                batch = self._look_again(connector, batch)
        raise Stopped

    def _handover(self, batch: Batch) -> Handover:
        shared, lane = self._shared, self._lane
        return Handover(shared.url, shared.deployment.name, lane.target, batch.marks, self._pause)

    def _pause(self, seconds: float, error: str) -> None:
        """Wait for something outside; an empty ``error`` is not worth telling yet."""
        if error:
            self._report.failed(self._lane.stream, error)
            if error != self._told:
                log.warning("%s: %s", self._lane.stream, error)
            self._told = error
        self._halt.wait(seconds)

    def _claim_again(self, connector: Connector) -> Claim:
        while not self._over:
            try:
                return self._claim(connector)
            except Unavailable as error:
                self._wait(str(error))
        raise Stopped

    def _look_again(self, connector: Connector, batch: Batch) -> Batch:
        """The table may have changed: reflect it anew and prepare the batch again."""
        while not self._over:
            try:
                connector.forget_tables()
                self._build_converters(connector)
                return self.prepare(batch.changes)
            except (Unavailable, SchemaMismatch) as error:
                self._wait(str(error))
        raise Stopped

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._looked > self._look_seconds / LOOKING_SHARE

    def _commit(
        self,
        connector: Connector,
        client: redis.Redis,
        claim: Claim,
        batch: Batch,
        moved: Moves,
        fresh: bool,
    ) -> None:
        """Commit a batch; ``fresh``: it was prepared by the columns as they are."""

        def store(refusals: list[Refusal]) -> None:
            if refusals and not fresh:
                raise Unexpected
            self._bury(client, letters_of(batch.faults + faults_of(refusals)))

        if batch.faults:
            # Before SQL, because the connector asks only about what the database itself refuses.
            store([])
        failpoints.reach("before-sql")
        applied = connector.apply(claim, batch.position, batch.rows, store, batch.earlier, moved)
        self._report.committed(
            self._lane.stream, applied.rows, batch.changes[0].position.ms, batch.position.ms
        )
        self._report.count(skipped=batch.skipped)
        if batch.skipped:
            log.warning(
                "%s: no function of this version covers %d changes; skipped", self._lane.stream, batch.skipped
            )

    # -- What others ask ---------------------------------------------------------------------------------

    @property
    def goes_first(self) -> bool:
        """Whether the target's current lanes begin when this one is done."""
        return self._lane.retired and not self._lane.adopted

    @property
    def target(self) -> str:
        return self._lane.target

    @property
    def url(self) -> str:
        return self._shared.url

    @property
    def stream(self) -> str:
        return self._lane.stream

    @property
    def deployment(self) -> Deployment:
        return self._shared.deployment

    @property
    def limits(self) -> tuple[int, int]:
        """The most changes in a batch, and how long (ms) the first one waits for others."""
        return self._shared.deployment.batch, self._shared.deployment.interval_ms


class Item:
    """What is read: a batch (None: all was applied before), entries that are no changes, and the last id."""

    __slots__ = ("batch", "last_id", "malformed")

    def __init__(self, batch: Batch | None, malformed: list[Malformed], last_id: str) -> None:
        self.batch = batch
        self.malformed = malformed
        self.last_id = last_id


class ReadingThread:
    """Reads a lane and prepares one batch ahead, so that Python works while the database does."""

    def __init__(self, runner: LaneRunner, position: Position) -> None:
        self._runner = runner
        self._position = position
        self._queue: queue.Queue[Item | BaseException] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        self._past = False
        self.idle = False
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
        self.idle = not reader.read_into(read, most, BLOCK_MS)
        if self.idle:
            return
        deadline = time.monotonic() + interval_ms / 1000
        while len(read) < most and not self._ended.is_set():
            if reader.read_into(read, most - len(read), 0):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.002))
        if reader.version(self._runner.deployment.name) != self._runner.deployment.version:
            raise Replaced
        new = self._without_applied(read.changes)
        *firsts, last = parts_of(new)
        malformed = read.malformed
        for part in firsts:
            self._put(Item(self._runner.prepare(part), malformed, part[-1].id))
            malformed = []
        self._put(Item(self._runner.prepare(last) if last else None, malformed, read.last_id))

    def _without_applied(self, changes: list[Change]) -> list[Change]:
        """Positions only grow along a lane: after the first new change, all are new."""
        if self._past:
            return changes
        first = 0
        while first < len(changes) and changes[first].position <= self._position:
            first += 1
        self._past = first < len(changes)
        return changes[first:]


def unavailable_target(error: TargetError) -> Unavailable:
    """A target's variable or file is missing here: that can be mended while the worker waits."""
    return Unavailable(str(error))
