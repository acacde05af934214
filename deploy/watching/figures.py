"""From one status document after another to figures with rates and a history."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from deploy.pausing import held
from deploy.watching.measures import (
    Backlog,
    DeploymentFigures,
    Flow,
    FunctionFigures,
    History,
    Lag,
    Sample,
    ShardFigures,
    TargetFigures,
    WorkerFigures,
)
from deploy.watching.rates import Rate

__all__ = [
    "Backlog",
    "DeploymentFigures",
    "Flow",
    "FunctionFigures",
    "History",
    "Lag",
    "Sample",
    "Sampler",
    "ShardFigures",
    "TargetFigures",
    "WorkerFigures",
]

#: How long samples are kept, in seconds; with a look a second there are as many of them.
HISTORY_SECONDS = 300.0
MAX_SAMPLES = 300

Key = tuple[str, ...]


class Sampler:
    """Remembers what rates and graphs need between two looks at the shards."""

    def __init__(self) -> None:
        self._rates: dict[Key, Rate] = {}
        self._histories: dict[Key, collections.deque[Sample]] = {}
        self._seen: set[Key] = set()

    def feed(self, documents: Sequence[dict[str, Any]], at: float) -> tuple[ShardFigures, ...]:
        """Take what ``watching.Watch.look`` (or ``status.fetch``) found at a time, in seconds of any clock;
        return the figures then.

        A document with an ``error`` is a shard that is away: what was counted there goes on when it is back.
        """
        self._seen = set()
        found = tuple(self._shard(each, at) for each in documents)
        self._forget({each.address for each in found if not each.up})
        return found

    def _forget(self, away: set[str]) -> None:
        """Drop what is no longer deployed, or whose shard is gone for good."""
        for known in (self._rates, self._histories):
            for key in [each for each in known if each not in self._seen and each[0] not in away]:
                del known[key]

    def _shard(self, document: dict[str, Any], at: float) -> ShardFigures:
        address = document["address"]
        if "error" in document:
            return ShardFigures(address, False, document["error"])
        made = tuple(self._deployment(address, each, at) for each in document["deployments"])
        return ShardFigures(
            address, True, "", document["role"], document["server"], document.get("epoch"), made
        )

    def _deployment(self, address: str, document: dict[str, Any], at: float) -> DeploymentFigures:
        place = address, document["name"]
        targets = tuple(self._target(place, document, each, at) for each in document["targets"])
        # Not the sum of the targets' rates: one that is left out takes its count along.
        flow = Flow(
            document["captured"],
            _sum(each.flow.applied for each in targets),
            self._rate((*place, "captured"), at, document["captured"]),
            _sum(each.flow.rate_out for each in targets),
        )
        lag = max(
            (each.lag for each in targets), key=lambda each: each.p99_ms or 0.0, default=Lag(None, None)
        )
        backlog = _backlog(document, targets)
        return DeploymentFigures(
            document["name"],
            document["version"],
            document["state"],
            _worker(document),
            flow,
            backlog,
            lag,
            sum(each.dead_letters for each in targets),
            _report(document).get("error") or next((e.last_error for e in targets if e.last_error), ""),
            tuple(self._function(place, document, each, at) for each in document.get("functions") or []),
            targets,
            self._remember(place, Sample(at, flow.rate_in, flow.rate_out, backlog.entries, lag.p99_ms)),
        )

    def _target(
        self, place: tuple[str, str], document: dict[str, Any], target: dict[str, Any], at: float
    ) -> TargetFigures:
        key = (*place, "target", target["name"])
        told = _told_of(document, target["name"])
        flow = self._flow(key, document, at, target.get("captured"), told.get("changes"))
        lag = told.get("lag_ms") or {}
        entries = sum(each["length"] for each in target["lanes"])
        weights = [each["bytes"] for each in target["lanes"] if "bytes" in each]
        # What a pause holds back waits on purpose.
        is_paused = bool(target.get("paused"))
        lanes = [each for each in target["lanes"] if each.get("status") != "held" and not is_paused]
        ages = [each["oldest_ms"] for each in lanes if "oldest_ms" in each]
        sample = Sample(at, flow.rate_in, flow.rate_out, entries, lag.get("p99"))
        return TargetFigures(
            target["name"],
            _state(document, told, is_paused),
            flow,
            Backlog(entries, sum(weights) if weights else None, max(ages, default=None)),
            Lag(lag.get("p50"), lag.get("p99")),
            told.get("retries", 0),
            target["dead_letters"],
            told.get("last_error", ""),
            self._remember(key, sample),
        )

    def _function(
        self, place: tuple[str, str], document: dict[str, Any], function: dict[str, Any], at: float
    ) -> FunctionFigures:
        name = function["name"]
        key = (*place, "function", name)
        told = _told_of(document, function["target"])
        # A function of which nothing came is not named there.
        applied = told["functions"].get(name, 0) if "functions" in told else None
        flow = self._flow(key, document, at, function["captured"], applied)
        sample = Sample(at, flow.rate_in, flow.rate_out)
        return FunctionFigures(
            name,
            function["target"],
            held.state(function) or _state(document, told, _is_paused(document, function["target"])),
            flow,
            function.get("held", 0),
            self._remember(key, sample),
        )

    def _flow(
        self, key: Key, document: dict[str, Any], at: float, captured: int | None, applied: int | None
    ) -> Flow:
        life = _report(document).get("worker", "")
        rate_in = self._rate((*key, "captured"), at, captured)
        return Flow(captured, applied, rate_in, self._rate((*key, "applied"), at, applied, life))

    def _rate(self, key: Key, at: float, value: int | None, life: str = "") -> float | None:
        self._seen.add(key)
        return self._rates.setdefault(key, Rate()).observe(at, value, life)

    def _remember(self, key: Key, sample: Sample) -> History:
        self._seen.add(key)
        samples = self._histories.setdefault(key, collections.deque(maxlen=MAX_SAMPLES))
        samples.append(sample)
        while samples[0].at < sample.at - HISTORY_SECONDS:
            samples.popleft()
        return tuple(samples)


def _report(document: dict[str, Any]) -> dict[str, Any]:
    return document["worker"].get("report") or {}


def _told_of(document: dict[str, Any], target: str) -> dict[str, Any]:
    """Return what the worker tells of a target; empty: nothing (yet)."""
    return (_report(document).get("targets") or {}).get(target) or {}


def _worker(document: dict[str, Any]) -> WorkerFigures:
    worker = document["worker"]
    return WorkerFigures(worker["state"], worker["restarts"], worker["heartbeat_age_ms"])


def _backlog(document: dict[str, Any], targets: Sequence[TargetFigures]) -> Backlog:
    backlog = document["backlog"]
    ages = [each.backlog.oldest_ms for each in targets if each.backlog.oldest_ms is not None]
    return Backlog(
        backlog["entries"],
        backlog["bytes"],
        max(ages, default=None),
        backlog["limit_entries"],
        backlog["limit_bytes"],
        backlog["full"],
    )


def _is_paused(document: dict[str, Any], target: str) -> bool:
    return any(each["name"] == target and each.get("paused") for each in document["targets"])


def _state(document: dict[str, Any], told: dict[str, Any], is_paused: bool) -> str:
    """Return what stands in the way first: the deployment, its pause, its worker, then the target."""
    if document["state"] != "active":
        return str(document["state"])
    if is_paused:
        return "paused"
    if document["worker"]["state"] != "running":
        return str(document["worker"]["state"])
    return str(told.get("state") or _report(document).get("state") or "starting")


def _sum(values: Iterable[Any]) -> Any:
    """Return the sum of what is known; None when nothing is."""
    known = [each for each in values if each is not None]
    return sum(known) if known else None
