"""From a lane to SQL: what RedisGears' StreamReader calls when a batch is there, in a thread of its own.

It reads by ids that it has asked for itself, because RedisGears gives each entry as a dict, in which a hash's
field that is named as one of ours would be lost. RedisGears counts what it has handed out: no more and no
less is taken.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

from gears.applying import deadletters, failpoints
from gears.applying.acknowledgments import Acknowledgment
from gears.applying.change import parsed_id
from gears.applying.deadletters import Letter
from gears.applying.report import TargetReport
from gears.redisgears.api import GearsCommands, atomic, execute, log, start_thread
from gears.redisgears.names import dead_of
from gears.redisgears.pausing import Pausing
from gears.redisgears.place import is_primary
from gears.redisgears.process import Process, ProcessEnded, Sources
from gears.redisgears.shard import NotPrimary, Shard

GROUP = "__gears_consumer_group__"
"""RedisGears' own consumer group of every stream that it reads."""
CHUNK = 500
"""The most entries of one read: Redis makes the answer on its main thread."""
FIRST = 20
"""The entries of the first read, before it is known how large they are."""
PAGE_BYTES = 8 << 20
"""About the most of one read, and of one page: all of it is some times in the memory of Redis' process."""
AHEAD = 2
"""How many pages are on their way to the database at once."""


def trim(stream: str, last: str) -> None:
    """Take all up to an entry, and the entry itself, out of a stream."""
    ms, seq = parsed_id(last)
    execute("XTRIM", stream, "MINID", "=", f"{ms}-{seq + 1}")


class Failed(Exception):
    """The batch is not in SQL; RedisGears tries again and shows the reason."""


class Drain:
    """Brings one target's lanes on this shard to SQL."""

    def __init__(
        self, sources: Sources, payload: str, target: str, batch: int, shard: Shard, pausing: Pausing
    ) -> None:
        self._sources = sources
        self._payload = payload
        self._target = target
        self._batch = batch
        self._shard = shard
        self._pausing = pausing
        self._redis = GearsCommands()
        self._process: Process | None = None
        self._busy = threading.Lock()
        self._attempt = 0
        self._trimmed: dict[str, tuple[int, int]] = {}
        """The last id that this process has taken out of each stream."""
        self.starts = 0
        self.report: dict[str, Any] = TargetReport().document()

    @property
    def pid(self) -> int:
        """The id of the process that writes; 0: there is none now."""
        process = self._process
        return 0 if process is None else process.pid

    @property
    def is_busy(self) -> bool:
        """Whether a batch is on its way."""
        return self._busy.locked()

    def open(self, stream: str) -> None:
        """Connect to the database and claim a lane in the background, unless that is done already."""
        if self.report["state"] != "running" and not self._busy.locked():
            start_thread(lambda: self._try(stream))

    def on_batch(self, stream: str) -> None:
        """Bring to SQL what RedisGears has handed out of a stream. Raises Failed."""
        pending = execute("XPENDING", stream, GROUP)
        if not pending[0]:
            return
        with self._busy:
            error = self._bring(stream, self._pages(stream, pending[1], pending[2]))
        if error:
            if error != self._pausing.reason(self._target):
                log(f"{stream}: {error}; trying again", "warning")
            raise Failed(error)

    def _pages(self, stream: str, first: str, last: str) -> Iterator[list[Any]]:
        """Yield the entries from ``first`` to ``last``, in batches; large ones in small batches."""
        batch: list[Any] = []
        start, count, size = first, FIRST, 0
        while True:
            page = execute("XRANGE", stream, start, last, "COUNT", count)
            batch += page
            more = sum(map(len, chain.from_iterable([pairs for _, pairs in page])))
            size += more
            is_last = len(page) < count
            if batch and (is_last or len(batch) >= self._batch or size >= PAGE_BYTES):
                yield batch
                batch, size = [], 0
            if is_last:
                return
            start = "(" + page[-1][0]
            count = max(1, min(CHUNK, PAGE_BYTES * len(page) // max(1, more)))

    def _try(self, stream: str) -> None:
        # A replica has nothing to claim.
        with self._busy, contextlib.suppress(NotPrimary):
            self._bring(stream, iter([[]]))

    def _bring(self, stream: str, pages: Iterator[list[Any]]) -> str:
        """Have pages written, one being read while another is written; return why not all of them are."""
        term = self._term()
        paused = self._pausing.reason(self._target)
        if paused:
            return paused
        try:
            if self._process is None:
                self._process = Process(self._sources, self._payload, self._target)
                self.starts += 1
            self._attempt += 1
            sent: deque[list[Any]] = deque()
            error = ""
            claim = term
            for entries in pages:
                error = self._pausing.reason(self._target)
                if error:
                    break
                if (
                    claim is term
                    and entries
                    and parsed_id(entries[0][0]) <= self._trimmed.get(stream, (0, 0))
                ):
                    # Somebody has deleted the lane, and the clock was set back: SQL would take these for
                    # applied.
                    claim = term[0], self._shard.who_anew
                self._process.send(self._attempt, stream, claim, entries)
                sent.append(entries)
                if len(sent) == AHEAD:
                    error = self._result(stream, term, sent.popleft())
                if error:
                    break
            while sent:
                error = self._result(stream, term, sent.popleft()) or error
        except (ProcessEnded, OSError) as ended:
            self._process = None
            error = str(ended)
            self.report = {**self.report, "state": "waiting", "last_error": error}
        except BaseException:
            # What it would still answer belongs to this attempt, and nobody would read it.
            process, self._process = self._process, None
            if process is not None:
                process.kill()
            raise
        return error

    def _term(self) -> tuple[int, str]:
        """Return the epoch, and who this shard is in it. Raises NotPrimary."""
        with atomic():
            if not is_primary():
                raise NotPrimary("this server is a replica: its primary brings the changes to SQL")
            self._shard.refresh()
            return self._shard.epoch, self._shard.who

    def _require(self, term: tuple[int, str]) -> None:
        """What is in the streams may be others' where this server was a replica since. Raises NotPrimary."""
        if self._term()[1] != term[1]:
            raise NotPrimary("this server was a replica meanwhile, or was flushed")

    def _result(self, stream: str, term: tuple[int, str], entries: list[Any]) -> str:
        """Wait for a page and let its entries go; return why it is not written. Raises NotPrimary."""
        assert self._process is not None  # noqa: S101 (for mypy)

        def bury(dead: str, documents: list[Any]) -> tuple[Any, ...]:
            self._require(term)
            return self._bury(dead, documents)

        error, self.report, asking = self._process.result(bury, self._outrank)
        if not error and entries:
            with atomic():
                self._require(term)
                self._acknowledge(stream, asking)
                failpoints.reach("before-ack")
                trim(stream, entries[-1][0])
            self._trimmed[stream] = parsed_id(entries[-1][0])
        return error

    def _outrank(self, epoch: int) -> None:
        self._shard.outrank(epoch)
        said = "an earlier life of this Redis, which it has forgotten, had the same epoch"
        log(f"{said}; the epoch is {self._shard.epoch} now", "warning")

    def _acknowledge(self, stream: str, asking: list[Any]) -> None:
        """Tell those who have asked about a batch that is in SQL."""
        lost = [(entry_id, epoch) for entry_id, epoch, _, reason in asking if reason is None]
        reasons = deadletters.reasons(self._redis, dead_of(stream), lost) if lost else {}
        for entry_id, _, told, reason in asking:
            error = reasons.get(entry_id, "") if reason is None else reason
            try:
                for words in Acknowledgment(entry_id, told, error).commands():
                    execute(*words)
            except Exception as refused:
                # Not tried again: a lane that waited for memory would keep what it could free.
                log(f"{stream}: Redis refused an acknowledgment: {refused}", "warning")

    def _bury(self, stream: str, documents: list[Any]) -> tuple[Any, ...]:
        letters = [Letter(each[0], frozenset(each[1]), *each[2:]) for each in documents]
        return tuple(deadletters.store(self._redis, dead_of(stream), letters))

    def close(self) -> None:
        """End the process that writes, after its batch."""
        with self._busy:
            process, self._process = self._process, None
        if process is not None:
            process.close()
