"""What a worker has at work for each target: its lanes, and what loads and follows rows of it.

A target that is paused alone has nothing at work; all others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Union

from gears.applying.report import TargetReport
from gears.worker.following.follower import Follower
from gears.worker.following.session import functions_of
from gears.worker.held import HoldingRunner
from gears.worker.lanes import Lane, Lanes
from gears.worker.reading.loader import Loader
from gears.worker.runner import LaneRunner
from gears.worker.shared import Shared
from gears.worker.through import ThroughRunner

Thread = Union[LaneRunner, Follower, Loader]


class Crew:
    """One target's. The thread that began it calls its methods."""

    def __init__(self, shared: Shared, target: str, report: TargetReport) -> None:
        self._shared = shared
        self._target = target
        self._report = report
        self._known: Lanes | None = None
        self._waiting: list[Lane] = []
        self._rests = False
        self.runners: list[LaneRunner] = []
        self.beside: list[Follower | Loader] = []

    def begin(self, known: Lanes, is_paused: bool) -> None:
        """Begin the lanes (anew); none of the runners from before is at work."""
        self._known = known
        self.runners = []
        self._report.forget_lanes()
        if is_paused or self._rests:
            self._rest()
            return
        if not known.lanes:
            # A shard without a slot: nothing is in the way.
            self._report.claimed("")
        self._stand_beside()
        own = [lane for lane in known.lanes if lane.target == self._target]
        for lane in own:
            if lane.retired:
                self._start(known, lane)
        self._waiting = [lane for lane in own if not lane.retired]
        self._start_waiting(known)

    def step(self, is_paused: bool) -> None:
        """Do what is due: lanes that waited for retired ones begin, a pause is begun, or ended."""
        if is_paused or (self._rests and not self._report.paused):
            self._rest()
        elif self._rests and self._known is not None:
            self._rests = self._report.paused = False
            self.begin(self._known, False)
        elif self._known is not None:
            self._start_waiting(self._known)

    def dismiss(self) -> None:
        """Forget those that have ended, for a pause of the whole deployment."""
        self.runners, self.beside, self._waiting = [], [], []
        self._report.forget_lanes()

    def threads(self) -> list[Thread]:
        """Return all that are, or were, at work."""
        return [*self.runners, *self.beside]

    def _rest(self) -> None:
        """Ask all to end after the batch in flight; once they have, say so."""
        self._rests = True
        if self._report.paused:
            return
        self._waiting = []
        for each in self.threads():
            each.halt()
        if not any(each.thread.is_alive() for each in self.threads()):
            self.dismiss()
            self._report.around = None
            self._report.paused = True

    def _stand_beside(self) -> None:
        """Load what is read and follow what others change, unless that is under way."""
        if self.beside:
            for each in self.beside:
                if isinstance(each, Follower):
                    each.see_other_term()
            return
        if any(each.target_name == self._target for each in self._shared.deployment.reading):
            self.beside.append(Loader(self._shared, self._target, self._report))
        if functions_of(self._shared.deployment, self._target):
            self.beside.append(Follower(self._shared, self._target, self._report))
        for each in self.beside:
            each.start()

    def _start(self, known: Lanes, lane: Lane) -> None:
        kind = ThroughRunner if self._shared.deployment.is_through else HoldingRunner
        runner = kind(self._shared, lane, known.term, self._report, until_empty=lane.retired)
        self.runners.append(runner)
        runner.start()

    def _start_waiting(self, known: Lanes) -> None:
        """Start the current lanes that no one of another name goes before."""
        waiting, self._waiting = self._waiting, []
        at_work = [each for each in self.runners if each.thread.is_alive()]
        for lane in waiting:
            if any(each.goes_before(lane) for each in at_work):
                self._waiting.append(lane)
            else:
                self._start(known, lane)


class Crews:
    """Those of all targets of a deployment."""

    def __init__(self, shared: Shared, reports: Mapping[str, TargetReport]) -> None:
        self._crews = {name: Crew(shared, name, report) for name, report in reports.items()}
        self._lock = threading.Lock()
        self._noted_at = 0.0
        self._paused: frozenset[str] = frozenset()

    def note(self, at: float, paused: frozenset[str]) -> None:
        """Note which targets are paused, as the module was asked ``at`` a time of time.monotonic. Any thread
        may call it.
        """
        with self._lock:
            if at >= self._noted_at:
                self._noted_at, self._paused = at, paused

    def begin(self, known: Lanes) -> None:
        """Begin the lanes of all targets that are not paused. Of each the retired ones are first, until they
        are empty; those of another shard are waited for by marks: what is ours may have to come before.
        """
        for name, crew in self._crews.items():
            crew.begin(known, name in self._paused)

    def step(self) -> None:
        """Do what is due; to be called some times a second."""
        for name, crew in self._crews.items():
            crew.step(name in self._paused)

    def runners(self) -> Iterator[LaneRunner]:
        """Yield what brings changes to SQL."""
        for crew in self._crews.values():
            yield from crew.runners

    def followers(self) -> list[Follower]:
        """Return what follows tables."""
        return [e for crew in self._crews.values() for e in crew.beside if isinstance(e, Follower)]

    def halt(self, seconds: float) -> bool:
        """Ask all to end, and wait so long for them; whether all have ended."""
        threads = [each for crew in self._crews.values() for each in crew.threads()]
        for each in threads:
            each.halt()
        deadline = time.monotonic() + seconds
        for each in threads:
            each.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(each.thread.is_alive() for each in threads)

    def dismiss(self) -> None:
        """Forget all, who have ended."""
        for crew in self._crews.values():
            crew.dismiss()
