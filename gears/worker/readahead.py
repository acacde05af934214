"""Reading a lane ahead of the thread that applies it, so that Python works while the database does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from gears.applying.applier import Applier
from gears.applying.change import Change, Malformed, is_applied
from gears.applying.pipeline import Batch
from gears.worker import lanes
from gears.worker.lanes import Reading

BLOCK_MS = 250
"""The longest wait for a first change: how late a stop is noticed."""
SHORTEST_WAIT_SECONDS = 0.002
"""For more changes to join a batch, before the next look."""


BATCH_BYTES = 32 << 20
"""About the most of one batch: one is applied while another one waits, each in several forms."""


class Source(Protocol):
    """The lane that is read, and what is done with what was read. All of it runs in the reading thread."""

    @property
    def url(self) -> str:
        """The URL of the shard."""

    @property
    def stream(self) -> str:
        """The lane's key in Redis."""

    @property
    def limits(self) -> tuple[int, int]:
        """The most changes in a batch, and how long (ms) the first one waits for others."""

    def check(self, reader: lanes.Reader) -> None:
        """See that what was just read may be applied. What it raises, ``take`` raises."""

    def cut(self, read: Reading) -> bool:
        """Take off what is not to be applied in this session; whether there was any."""

    def sift(self, reader: lanes.Reader, changes: Sequence[Change]) -> Sequence[Change]:
        """Return those of the changes that are to be applied now. What it raises, ``take`` raises."""


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
    """Reads a lane and prepares one batch ahead."""

    def __init__(self, source: Source, applier: Applier) -> None:
        self._source = source
        self._applier = applier
        self._position = applier.position
        self._queue: queue.Queue[Item | BaseException] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        self._past = False
        self.idle = False
        self.parked = False
        self._thread = threading.Thread(target=self._run, name=f"read {source.stream}", daemon=True)

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
            reader = lanes.Reader(self._source.url, self._source.stream)
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
        most, interval_ms = self._source.limits
        read = Reading()
        self.idle = self.parked or not reader.read_into(read, most, BLOCK_MS)
        if self.idle:
            self._ended.wait(BLOCK_MS / 1000 if self.parked else 0)
            return
        began = time.monotonic()
        deadline = began + interval_ms / 1000
        while len(read) < most and read.size < BATCH_BYTES and not self._ended.is_set():
            if reader.read_into(read, most - len(read), 0):
                continue
            now = time.monotonic()
            if now >= deadline:
                break
            # Until they are as many as a batch takes, if they go on to come as they did: each look costs.
            rest = (now - began) * (most - len(read)) / len(read)
            time.sleep(min(deadline - now, max(rest, SHORTEST_WAIT_SECONDS)))
        reader.end_transaction(read)
        self._source.check(reader)
        self.parked = self._source.cut(read)
        if not len(read):
            return
        new = self._without_applied(read.changes)
        applied = self._source.sift(reader, read.changes[: len(read.changes) - len(new)])
        new = self._source.sift(reader, new)
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
