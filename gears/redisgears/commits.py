"""The thread that has the writes of waiting clients committed, and asks SQL after a crash."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from gears.applying import failpoints
from gears.applying.report import TargetReport
from gears.redisgears.api import atomic, log, start_thread
from gears.redisgears.process import Committer, ProcessEnded, Sources
from gears.redisgears.standing import Changed, Place
from gears.redisgears.through import Through
from gears.redisgears.write import SENT, Write

DENY_SECONDS = 0.02
"""How often clients are told that the database is away."""
RETRY_SECONDS = 1.0
LANE_SECONDS = 0.003
"""How long to wait for changes of a key to be in SQL before its next write."""
SETTLE_SECONDS = 60.0
"""How long a version that is gone tries to learn whether its last writes are in SQL: the next one waits."""
LOOK_SECONDS = 1.0
"""How long nothing may happen before it is looked whether this server was promoted, or is a replica now."""


class Away(Exception):
    """Nothing can be committed now."""


class Commits:
    """Commits what ``through`` has, as long as it is open."""

    def __init__(self, sources: Sources, payload: str, target: str, through: Through) -> None:
        self._start = (sources, payload, target)
        self._through = through
        self._process: Committer | None = None
        self._report = TargetReport()
        self._sent: list[Write] = []
        """What may be committed, and is not settled here."""
        self._settle_until = 0.0
        self._state, self._error = "starting", ""
        start_thread(self._run)

    @property
    def pid(self) -> int:
        """The id of the process that commits; 0: there is none now."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_busy(self) -> bool:
        """Whether a group may be on its way to SQL."""
        return bool(self._sent)

    @property
    def writing(self) -> int:
        """How many writes wait, or are on their way to SQL."""
        return len(self._sent) + self._through.waiting

    def report(self) -> dict[str, Any]:
        """Return the target's part of the report."""
        return {**self._report.document(), "state": self._state, "last_error": self._error}

    def _run(self) -> None:
        # Not before the version that was here has settled what it has sent.
        places: dict[str, threading.Lock] = sys.__dict__.setdefault("_gearsync_through", {})
        with places.setdefault(self._through.name, threading.Lock()):
            while self._has_work():
                try:
                    self._session()
                except Changed:
                    continue
                except (Away, ProcessEnded, OSError) as error:
                    self._wait(str(error))
                except Exception as error:
                    self._wait(f"{type(error).__name__}: {error}")
            # What is open still, the next version does when it finds it committed.
            gone = "this version of the deployment is gone"
            self._through.refuse(
                self._sent, f"{gone}; whether the write came true is not known: read the key"
            )
            self._through.refuse(None, f"{gone}; nothing was written")
            self._through.clear()
            if self._process is not None:
                self._process.close()

    def _has_work(self) -> bool:
        """Whether writes may come, or some are to be settled: without a client not for ever."""
        if not self._through.is_closed or any(not each.told for each in self._sent):
            return True
        if not self._settle_until:
            self._settle_until = time.monotonic() + SETTLE_SECONDS
        return bool(self._sent) and time.monotonic() < self._settle_until

    def _wait(self, error: str) -> None:
        """Wait for the next try; clients who ask meanwhile are told at once."""
        if error != self._error:
            log(f"write-through to {self._start[2]}: {error}; trying again", "warning")
        self._state, self._error = "waiting", error
        until = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < until:
            self._through.refuse(None, f"nothing was written: {error}")
            time.sleep(DENY_SECONDS)

    def _session(self) -> None:
        """Settle what an earlier session has left, and commit, until this is another epoch."""
        with atomic():
            place = self._through.enter()
            paused = "" if place is None else self._through.pause()
        if place is None or paused:
            self._through.refuse(None, paused) if paused else None
            self._through.wake.wait(LOOK_SECONDS)
            self._through.wake.clear()
            return
        transactions, last, is_doubled = self._ask("open", *place)
        if is_doubled:
            self._through.outrank(place)
            return
        self._redo(place, transactions)
        self._through.begin(last)
        self._state, self._error = "running", ""
        while not self._through.is_closed:
            with atomic():
                if self._through.pause():
                    return
            self._round(place.epoch)

    def _round(self, epoch: int) -> None:
        through = self._through
        through.wake.clear()
        group, entries = through.take()
        if not group:
            through.wake.wait(LANE_SECONDS if through.waiting else LOOK_SECONDS)
            return
        self._sent = group
        (refused,) = self._ask("commit", entries)
        ms, _, seq = group[-1].id.partition("-")
        through.settle(group, refused, (epoch, int(ms), int(seq)))
        self._sent = []
        self._count([each.id for each in group if each.id not in refused])
        failpoints.reach("settled")

    def _count(self, ids: Sequence[str]) -> None:
        """Note which writes are in SQL, for all functions: which of them had a part is not looked at."""
        times = [int(each.partition("-")[0]) for each in ids]
        if not times:
            return
        self._report.committed("", len(ids), times[0], times[-1])
        self._report.arrived(len(ids), times.__getitem__, {})

    def _ask(self, *words: Any) -> Any:
        try:
            if self._process is None:
                self._process = Committer(*self._start)
            error, in_commit, result = self._process.ask(*words)
        except BaseException:
            # What it would still answer, nobody would read.
            process, self._process = self._process, None
            if process is not None:
                process.kill()
            raise
        if not error:
            return result
        if words[0] == "commit" and not in_commit:
            group, self._sent = self._sent, []
            self._through.refuse(group, f"nothing was written: {error}")
        raise Away(error)

    # -- After a crash -----------------------------------------------------------------------------------

    def _redo(self, place: Place, transactions: Sequence[Any]) -> None:
        """Bring Redis to what SQL has committed; what it has not waits again."""
        # Of what was settled, or done again, before Redis changed, nothing is left to do.
        sent = [each for each in self._sent if each.stage == SENT]
        mine = {each.id: each for each in sent if each.term == place.term}
        applied = place.applied
        for position, previous, outcomes in transactions:
            if previous is not None and applied is not None and tuple(previous) > tuple(applied):
                log(
                    f"{place.stream}: Redis has forgotten more than SQL has records of: writes after "
                    f"{applied}, up to {previous}, are in SQL, and perhaps not in Redis; gearsync load "
                    "brings missing keys back",
                    "warning",
                )
            self._through.redo(position, outcomes, mine)
            applied = position
        self._through.give_back(list(mine.values()))
        self._through.disown([each for each in sent if each.term != place.term])
        self._sent = []
