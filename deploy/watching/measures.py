"""What ``figures.Sampler`` gives of every shard.

Rates are changes a second, lags milliseconds from a write to its commit in SQL; None is what nobody tells
(yet). Counts are of the process that counts them, since it started.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One moment, for graphs. ``at`` is in the seconds that ``Sampler.feed`` was given."""

    at: float
    rate_in: float | None
    rate_out: float | None
    backlog: int = 0
    lag_p99_ms: float | None = None


History = tuple[Sample, ...]


@dataclass(frozen=True)
class Flow:
    """Changes captured and applied, and how many a second of each.

    Several changes of one row may be applied as one row of SQL; they all count.
    """

    captured: int | None
    applied: int | None
    rate_in: float | None
    rate_out: float | None


@dataclass(frozen=True)
class Lag:
    """Milliseconds from a write to its commit, of the last half minute; None: nothing was committed."""

    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Backlog:
    """Changes that wait. Limits of 0 are none; a target has none of its own.

    ``oldest_ms``: the age of the change that waits longest, 0 when none waits.
    """

    entries: int
    bytes: int | None
    oldest_ms: int | None
    limit_entries: int = 0
    limit_bytes: int = 0
    full: bool = False

    @property
    def share(self) -> float:
        """How much of its limit it takes, of the one that it is nearer to; 0 without limits."""
        of_entries = self.entries / self.limit_entries if self.limit_entries else 0.0
        of_bytes = (self.bytes or 0) / self.limit_bytes if self.limit_bytes else 0.0
        return max(of_entries, of_bytes)


@dataclass(frozen=True)
class FunctionFigures:
    """One function that captures; what else there is to know of it is its target's. ``held``: changes that
    wait because it is, or was, paused alone.
    """

    name: str
    target: str
    state: str
    flow: Flow
    held: int = 0
    history: History = field(repr=False, default=())


@dataclass(frozen=True)
class TargetFigures:
    """One target of a deployment. ``state``: the first thing in its way, or ``running``."""

    name: str
    state: str
    flow: Flow
    backlog: Backlog
    lag: Lag
    retries: int
    dead_letters: int
    last_error: str
    history: History = field(repr=False, default=())


@dataclass(frozen=True)
class WorkerFigures:
    """The worker of a deployment; ``heartbeat_age_ms`` is -1 before its first report."""

    state: str
    restarts: int
    heartbeat_age_ms: int


@dataclass(frozen=True)
class DeploymentFigures:
    """One deployment on one shard: its targets together, and each of them. The lag is the worst target's."""

    name: str
    version: int
    state: str
    worker: WorkerFigures
    flow: Flow
    backlog: Backlog
    lag: Lag
    dead_letters: int
    last_error: str
    functions: tuple[FunctionFigures, ...]
    targets: tuple[TargetFigures, ...]
    history: History = field(repr=False, default=())


@dataclass(frozen=True)
class ShardFigures:
    """One shard. When it is away (``up`` false, ``error`` says why) it has no deployments to show."""

    address: str
    up: bool
    error: str
    role: str = ""
    server: str = ""
    epoch: int | None = None
    deployments: tuple[DeploymentFigures, ...] = ()

    def to_document(self, history: bool = False) -> dict[str, Any]:
        """Return all of it as JSON's types, with the samples only when asked for."""
        document = dataclasses.asdict(self)
        return document if history else _without_history(document)


def _without_history(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_history(each) for key, each in value.items() if key != "history"}
    return [_without_history(each) for each in value] if isinstance(value, (list, tuple)) else value
