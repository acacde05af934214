"""The process that writes one target's lanes to its database.

Its own process, because the Python inside Redis runs one thread at a time, and captures writes on Redis' main
thread: what is converted there would hold up every client. Redis' process reads the lanes and keeps the dead
letters; this one ends when its pipe does.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import uuid
from collections.abc import Sequence
from typing import IO, Any, Callable

import connectors
from connectors import Connector, ConnectorError, SchemaMismatch
from gears.applying import change as changes
from gears.applying import deadletters, failpoints, remembered
from gears.applying.acknowledgments import asked_for, of_changes
from gears.applying.applier import Applier
from gears.applying.change import Change, Malformed, is_applied
from gears.applying.deadletters import Letter, Stored
from gears.applying.pipeline import Batch
from gears.applying.report import TargetReport
from gears.declaring.deployment import Deployment
from gears.redisgears import frames
from gears.redisgears.names import NOT_TEXT

NICENESS = 10


class LettersNotStored(Exception):
    """Redis did not take the dead letters, so nothing may be committed."""


class Parent(logging.Handler):
    """Redis' process, as this one sees it."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        super().__init__()
        self._requests = requests
        self._answers = answers
        self.prepare: Callable[[str, Sequence[Change]], Batch | None] = lambda stream, found: None
        """What can be done with a batch before its turn."""
        self._batches: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Read ahead: Redis' process is never held up, and a batch is prepared while another is written."""
        try:
            while True:
                message = frames.receive(self._requests)
                if len(message) == 4:
                    attempt, stream, term, entries = message
                    found, malformed = changes.decode([_entry_of(each) for each in entries])
                    prepared = self.prepare(stream, found)
                    self._batches.put((attempt, stream, term, found, malformed, prepared))
                else:
                    self._replies.put(message)
        except EOFError:
            pass
        finally:
            # Also after a fault of this thread: then the process ends, and Redis' starts another.
            self._batches.put(None)
            self._replies.put(((), "Redis is gone"))

    def next_batch(self) -> Any:
        """Wait for an attempt's number, a lane's name, its epoch with whose that is, its changes, what is
        none, and the batch if it is prepared. None: Redis is gone.
        """
        return self._batches.get()

    def done(self, error: str, report: TargetReport, asking: list[Any]) -> None:
        """Tell that the batch is committed, or why not, and who has asked about it."""
        frames.send(self._answers, "done", error, report.document(), asking)

    def doubled(self, epoch: int) -> None:
        """Have an epoch above that one: another life of the shard has claimed the lane in the same one."""
        frames.send(self._answers, "doubled", epoch)

    def bury(self, stream: str, letters: Sequence[Letter]) -> Stored:
        """Have dead letters stored. Raises LettersNotStored."""
        documents = [(each.id, sorted(each.functions), each.fields, each.entry) for each in letters]
        frames.send(self._answers, "bury", stream, documents)
        stored, error = self._replies.get()
        if error:
            raise LettersNotStored(f"Redis did not store the dead letters: {error}")
        return Stored(*stored)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line into the server's log."""
        level = "warning" if record.levelno >= logging.WARNING else "notice"
        frames.send(self._answers, "log", level, self.format(record))


class Process:
    """Applies batch after batch, as it is told."""

    def __init__(self, deployment: Deployment, target: str, parent: Parent) -> None:
        self._deployment = deployment
        self._target = target
        self._parent = parent
        self._transforms = deployment.transforms()
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._connector: Connector | None = None
        self._appliers: dict[str, Applier] = {}
        self._report = TargetReport()
        parent.prepare = self._prepare

    def run(self) -> None:
        """Serve until Redis is gone."""
        failed, error = -1, ""
        while True:
            request = self._parent.next_batch()
            if request is None:
                return
            attempt, stream, term, *batch = request
            asking: list[Any] = []
            # What was sent before an error was known must not pass what has failed.
            if attempt != failed:
                error = self._try(stream, term, batch, asking)
            if error:
                failed = attempt
            self._parent.done(error, self._report, asking)

    def _prepare(self, stream: str, found: Sequence[Change]) -> Batch | None:
        """Prepare a batch by what is known of the tables; None: that is for its turn."""
        applier = self._appliers.get(stream)
        return applier.prepare(found) if applier is not None and found else None

    def _try(self, stream: str, term: tuple[int, str], batch: Sequence[Any], asking: list[Any]) -> str:
        """Return why a batch is not committed; empty: it is."""
        try:
            asking += self._apply(self._applier(stream, *term), stream, *batch)
        except Exception as error:
            self._close()
            said = str(error) if isinstance(error, ConnectorError) else f"{type(error).__name__}: {error}"
            self._report.failed(stream, said)
            return said
        return ""

    def _applier(self, stream: str, epoch: int, shard: str) -> Applier:
        """Return who has claimed the lane in this epoch."""
        applier = self._appliers.get(stream)
        owner = f"{self._name}@{shard}"
        if applier is not None and (applier.claimed.epoch, applier.claimed.owner) == (epoch, owner):
            return applier
        if self._connector is None:
            target = self._deployment.targets[self._target]
            self._connector = connectors.connect(target.resolve(), target.schema)

        def bury(letters: Sequence[Letter]) -> Sequence[str]:
            return self._bury(stream, letters)

        applier = Applier(
            self._connector, self._deployment, self._target, self._transforms, self._report, bury
        )
        applier.open(stream, epoch, owner)
        if applier.claimed.is_doubled:
            self._parent.doubled(epoch)
        self._appliers[stream] = applier
        return applier

    def _apply(
        self,
        applier: Applier,
        stream: str,
        found: Sequence[Change],
        malformed: list[Malformed],
        prepared: Batch | None,
    ) -> list[Any]:
        """Commit a batch; return who has asked about it (process.py)."""
        new = _without_applied(applier, found)
        if len(new) < len(found):
            # First: before Redis 7.0, a letter that stands behind another one says that this was there.
            self._put_again(applier, found)
        if malformed:
            self._bury(stream, [deadletters.of_malformed(each) for each in malformed])
        if new:
            batch = applier.commit(applier.prepare(new) if prepared is None or new is not found else prepared)
            if batch.skipped:
                logging.warning("%s: no function covers %d changes; skipped", stream, batch.skipped)
            failpoints.reach("after-commit")
        asking = asked_for(found)
        known = {change.id for change in new} if asking else set()
        refused = batch.refused if new else {}
        return [
            (change.id, change.epoch, told.stream, told.error if change.id in known else None)
            for change, told in zip(asking, of_changes(asking, refused))
        ]

    def _put_again(self, applier: Applier, found: Sequence[Change]) -> None:
        """Put dead letters again that Redis has forgotten, of changes that were applied before."""
        applied = [change for change in found if is_applied(change, applier.position)]
        try:
            remembered.put_again(applier.connector, applier.claimed, [applied], self._bury)
        except SchemaMismatch as error:
            # A right may be missing. The lane goes on, as it does where nothing can be remembered.
            stream = applier.claimed.stream
            logging.warning("%s: what SQL remembers of dead letters can't be read: %s", stream, error)

    def _bury(self, stream: str, letters: Sequence[Letter]) -> Sequence[str]:
        stored, entries = self._parent.bury(stream, letters) if letters else Stored(0, [])
        self._report.count(dead_letters=stored)
        if stored:
            logging.warning("%s: %d changes are dead letters; see gearsync deadletters list", stream, stored)
        return entries

    def _close(self) -> None:
        """Forget the connection and all claims: only the checkpoint knows what is in."""
        self._appliers.clear()
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.close()


def _entry_of(reply: list[Any]) -> tuple[bytes, list[bytes]]:
    """Return an entry as bytes; RedisGears gives text wherever it is UTF-8."""
    entry_id, pairs = reply
    if len(pairs) > 2 and pairs[2] == NOT_TEXT:
        pairs[2] = "m"
        pairs[4::2] = [each.encode("latin-1") for each in pairs[4::2]]
    return entry_id.encode(), [each.encode() if type(each) is str else each for each in pairs]


def _without_applied(applier: Applier, found: Sequence[Change]) -> Sequence[Change]:
    if not found or not is_applied(found[0], applier.position):
        return found
    return [change for change in found if not is_applied(change, applier.position)]


def main(requests: IO[bytes]) -> None:
    """Be that process: first comes the deployment, then batch after batch."""
    payload, target = frames.receive(requests)
    # Clients come first: what waits is in Redis, and can wait on.
    os.nice(NICENESS)
    parent = Parent(requests, frames.answers())
    logging.basicConfig(level=logging.INFO, handlers=[parent], format="%(message)s")
    Process(Deployment.from_payload(payload), target, parent).run()
