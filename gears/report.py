"""What the worker tells of itself with each heartbeat (docs/design.md, the worker's report)."""

from __future__ import annotations

import collections
import json
import os
import threading
import time
from typing import Any

WINDOW_SECONDS = 30.0
MAX_BATCHES = 2000


class TargetReport:
    """The figures of one target, fed by its lanes' threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags: collections.deque[tuple[float, float]] = collections.deque(maxlen=MAX_BATCHES)
        self.applied = 0
        self.dead_letters = 0
        self.skipped = 0
        self.retries = 0
        self.last_error = ""
        self.state = "running"

    def committed(self, rows: int, oldest_ms: int, newest_ms: int) -> None:
        """Count a batch; the two are the times of its first and last change, in ms since 1970."""
        now = time.time()
        with self._lock:
            self.applied += rows
            self.state = "running"
            self._lags.append((now, max(0.0, now * 1000 - oldest_ms)))
            self._lags.append((now, max(0.0, now * 1000 - newest_ms)))

    def failed(self, error: str) -> None:
        """Count a retry and remember why."""
        with self._lock:
            self.retries += 1
            self.state = "waiting"
            self.last_error = error

    def count(self, dead_letters: int = 0, skipped: int = 0) -> None:
        """Count dead letters, and changes that no function covers any more."""
        with self._lock:
            self.dead_letters += dead_letters
            self.skipped += skipped

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON's types; lags are those of the last half minute."""
        with self._lock:
            since = time.time() - WINDOW_SECONDS
            lags = sorted(lag for at, lag in self._lags if at >= since)
            return {
                "applied": self.applied,
                "dead_letters": self.dead_letters,
                "skipped": self.skipped,
                "retries": self.retries,
                "state": self.state,
                "last_error": self.last_error if self.state == "waiting" else "",
                "lag_ms": {"p50": _quantile(lags, 0.5), "p99": _quantile(lags, 0.99)},
            }


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


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
        state, error = self.state, self.error
        waiting = [each for each in self.targets.values() if each.state == "waiting"]
        if state == "running" and waiting:
            state, error = "waiting", waiting[0].last_error
        document = {
            "worker": self.worker_id,
            "version": self.version,
            "pid": os.getpid(),
            "state": state,
            "error": error,
            "targets": {name: each.document() for name, each in self.targets.items()},
        }
        return json.dumps(document)
