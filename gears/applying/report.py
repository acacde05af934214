"""What the worker tells of itself with each heartbeat (docs/design.md, the worker's report)."""

from __future__ import annotations

import collections
import json
import os
import threading
import time
from typing import Any, Callable, Mapping

from gears.applying.lag import LagHistogram

WINDOW_SECONDS = 30.0
MAX_BATCHES = 2000


class TargetReport:
    """The figures of one target, fed by its lanes' threads. A lane is named by its stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags: collections.deque[tuple[float, float]] = collections.deque(maxlen=MAX_BATCHES)
        # What is in the way of each lane; empty: it runs.
        self._errors: dict[str, str] = {}
        # Of each lane, the number of what it holds back; see ``gears.worker.holds``.
        self._holds: dict[str, int] = {}
        self._lag = LagHistogram()
        self._functions: dict[str, int] = {}
        self.applied = 0
        self.changes = 0
        self.commits = 0
        self.dead_letters = 0
        self.skipped = 0
        self.retries = 0
        # Of a follower, if there is one: a dictionary that is replaced as a whole.
        self.around: dict[str, Any] | None = None
        # Whether it is paused alone, and nothing is at work for it any more.
        self.paused = False

    def claimed(self, lane: str) -> None:
        """Note that the database has given the lane to this worker."""
        with self._lock:
            self._errors[lane] = ""

    def holds(self, lane: str, number: int) -> None:
        """Note what a lane holds back from now on: what the module's number stands for."""
        with self._lock:
            self._holds[lane] = number

    def ended(self, lane: str) -> None:
        """Note that nobody is at work on a lane, and nobody has to be."""
        with self._lock:
            self._errors.pop(lane, None)

    def committed(self, lane: str, rows: int, oldest_ms: int, newest_ms: int) -> None:
        """Count a batch; the two are the times of its first and last change, in ms since 1970."""
        now = time.time()
        with self._lock:
            self.applied += rows
            self._errors[lane] = ""
            self._lags.append((now, max(0.0, now * 1000 - oldest_ms)))
            self._lags.append((now, max(0.0, now * 1000 - newest_ms)))

    def arrived(self, count: int, ms_at: Callable[[int], int], functions: Mapping[str, int]) -> None:
        """Count a commit with that many changes: ``ms_at`` gives the time of each, in ms since 1970, and
        ``functions`` how many of them each function had.
        """
        now_ms = time.time() * 1000
        with self._lock:
            self.commits += 1
            self.changes += count
            self._lag.add(now_ms, count, ms_at)
            for name, had in functions.items():
                self._functions[name] = self._functions.get(name, 0) + had

    def failed(self, lane: str, error: str) -> None:
        """Count a retry and remember why."""
        with self._lock:
            self.retries += 1
            self._errors[lane] = error

    def forget_lanes(self) -> None:
        """The lanes are about to start anew."""
        with self._lock:
            self._errors.clear()
            self._holds.clear()

    def count(self, dead_letters: int = 0, skipped: int = 0) -> None:
        """Count dead letters, and changes that no function covers any more."""
        with self._lock:
            self.dead_letters += dead_letters
            self.skipped += skipped

    @property
    def state(self) -> tuple[str, str]:
        """``waiting`` and why, when any lane is; ``starting`` until one is claimed; ``paused`` alone; else
        ``running``.
        """
        with self._lock:
            return self._state()

    def _state(self) -> tuple[str, str]:
        if self.paused:
            return "paused", ""
        error = next(filter(None, self._errors.values()), "")
        return ("waiting" if error else "running" if self._errors else "starting"), error

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON's types; lags are those of the last half minute."""
        with self._lock:
            since = time.time() - WINDOW_SECONDS
            lags = sorted(lag for at, lag in self._lags if at >= since)
            state, error = self._state()
            around = {} if self.around is None else {"around": self.around}
            number = min(self._holds.values(), default=0)
            holds = {"holds": number} if number else {}
            return {
                **around,
                **holds,
                "applied": self.applied,
                "changes": self.changes,
                "commits": self.commits,
                "functions": dict(self._functions),
                "lag_histogram": self._lag.document(),
                "dead_letters": self.dead_letters,
                "skipped": self.skipped,
                "retries": self.retries,
                "state": state,
                "last_error": error,
                "lag_ms": {"p50": _quantile(lags, 0.5), "p99": _quantile(lags, 0.99)},
            }


_ADDED = ("applied", "changes", "commits", "dead_letters", "skipped", "retries")


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a target that two processes bring changes to; the lag is the worse one's."""
    made = {**one, **{name: one[name] + other[name] for name in _ADDED}}
    names = [*one["functions"], *other["functions"]]
    made["functions"] = {n: one["functions"].get(n, 0) + other["functions"].get(n, 0) for n in names}
    made["lag_ms"] = max((one["lag_ms"], other["lag_ms"]), key=lambda lag: lag["p99"] or 0.0)
    lags, more = one["lag_histogram"], other["lag_histogram"]
    made["lag_histogram"] = {
        "le": lags["le"],
        "counts": [a + b for a, b in zip(lags["counts"], more["counts"])],
        "count": lags["count"] + more["count"],
        "sum": lags["sum"] + more["sum"],
    }
    if other["state"] != "running" and one["state"] == "running":
        made.update(state=other["state"], last_error=other["last_error"])
    return made


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


_SEVERITY = ("paused", "running", "starting", "waiting")


class Report:
    """The whole report of one worker."""

    def __init__(self, worker_id: str, version: int) -> None:
        self.worker_id = worker_id
        self.version = version
        self.state = "starting"
        self.error = ""
        self.targets: dict[str, TargetReport] = {}

    def set_state(self, state: str, error: str = "") -> None:
        """Say what the worker does now, and what is in its way."""
        self.error = error
        self.state = state

    def text(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.document())

    def document(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        state, error = self.state, self.error
        if state == "running":
            # The worst of its targets.
            of_targets = [each.state for each in self.targets.values()]
            state, error = max(of_targets, key=lambda each: _SEVERITY.index(each[0]), default=(state, error))
        return {
            "worker": self.worker_id,
            "version": self.version,
            "pid": os.getpid(),
            "state": state,
            "error": error,
            "targets": {name: each.document() for name, each in self.targets.items()},
        }
