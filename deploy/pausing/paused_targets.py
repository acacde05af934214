"""Targets that are paused alone: have them wait on all shards, or on none, and go on again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy import output
from deploy.hosts.base import Pause
from deploy.output import CommandError
from deploy.pausing import pauses
from deploy.reaching.shards import Shards


def of(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the targets that are paused, by name, from a deployment's part of a status."""
    return {each["name"]: each for each in deployment["targets"] if each.get("paused")}


def waiting(target: dict[str, Any]) -> int:
    """Return how many changes of a target wait."""
    return sum(int(lane["length"]) for lane in target["lanes"])


def sentences(deployment: dict[str, Any]) -> list[str]:
    """Return a sentence for each target of a deployment's status that is paused."""
    return [
        f"target {name} is {pauses.described(each)}; "
        f"{output.counted(waiting(each), 'change waits', 'changes wait')}"
        for name, each in of(deployment).items()
    ]


def pause(shards: Shards, name: str, targets: Sequence[str], by: Pause) -> None:
    """Pause on all shards that have the deployment. Raises CommandError; then none is paused that was not."""
    entries = pauses.entries_of(shards, name)
    _require(entries, name, targets)
    before = {address: of(entry) for address, entry in entries.items()}

    def take_back(shard: Any) -> None:
        new = [each for each in targets if each not in before[shard.address]]
        if new:
            shard.host.resume(name, targets=new)

    try:
        holders = pauses.holders_of(shards, entries)
        pauses.on_all(holders, lambda each: each.host.pause(name, by, targets=targets), take_back)
    except pauses.NotOnAll as error:
        raise error.told(f"target {' and '.join(targets)} of {name}") from error


def resume(shards: Shards, name: str, targets: Sequence[str]) -> None:
    """Have targets go on, on every shard that answers. Raises CommandError with what did not."""
    entries = pauses.entries_of(shards, name)
    _require(entries, name, targets)
    holders = pauses.holders_of(shards, entries)
    pauses.on_each(holders, name, lambda each: each.host.resume(name, targets=targets))


def _require(entries: dict[str, dict[str, Any]], name: str, targets: Sequence[str]) -> None:
    known = {each["name"]: None for entry in entries.values() for each in entry["targets"]}
    unknown = next((each for each in targets if each not in known), None)
    if unknown is not None:
        raise CommandError(f"{name} has no target {unknown}.", f"one of {', '.join(known)}.")


def wait_until_still(
    shards: Shards, name: str, targets: Sequence[str], seconds: float, progress: Callable[[str], None]
) -> list[str]:
    """Wait until each worker has ended its last batch for them; return the addresses of who has not.

    Only what a worker reports after this call counts, as of a pause of the whole deployment.
    """
    began = time.monotonic()

    def is_busy(entry: dict[str, Any]) -> bool:
        return is_at_work(entry, targets, (time.monotonic() - began) * 1000)

    return list(pauses.wait_while(shards, name, is_busy, seconds, progress))


def is_at_work(entry: dict[str, Any], targets: Sequence[str], passed_ms: float) -> bool:
    """Whether a worker may have something of targets on its way, which were paused so long ago."""
    if not targets or not pauses.reports(entry):
        return False
    report = entry["worker"]["report"] or {}
    told = report.get("targets") or {}
    rest = all((told.get(each) or {}).get("state") == "paused" for each in targets)
    return pauses.is_old(entry, passed_ms) or (report.get("state") in pauses.AT_WORK and not rest)
