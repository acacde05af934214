"""Functions that are paused alone: have them wait on all shards, or on none, and go on again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deploy import output, pausing, workers
from deploy.hosts.base import Pause
from deploy.output import CommandError
from deploy.server_errors import errors_of
from deploy.shards import Shard, Shards
from gears.deployment import Deployment
from gears.functions import Function

ON_A_CLUSTER = "on a Redis Cluster, keys that move to another shard could overtake what is held back"


def state(function: dict[str, Any]) -> str:
    """Return ``paused``, ``resuming`` (what was held goes to SQL now), or nothing, from its status."""
    if function.get("paused"):
        return "paused"
    return "resuming" if "held" in function else ""


def sentences(deployment: dict[str, Any]) -> list[str]:
    """Return a sentence for each function of a deployment's status that is paused, or going on."""
    return [
        f"{each['name']} is {pausing.described(each) or 'resumed'}; "
        f"{output.counted(each['held'], 'change is', 'changes are')} held back"
        for each in deployment.get("functions") or []
        if state(each)
    ]


def held_of(shards: Shards, name: str, function: str) -> list[str]:
    """Return a sentence for each shard where a function is paused alone."""
    return [
        f"{function} is {pausing.described(each)} on {address}, with {each['held']} changes held back: "
        "what differs of their keys is undecided."
        for address, entry in pausing.entries_of(shards, name).items()
        for each in entry.get("functions") or []
        if each["name"] == function and each.get("paused")
    ]


def pause(shards: Shards, name: str, functions: Sequence[str], by: Pause) -> None:
    """Pause on all shards that have the deployment. Raises CommandError; then none is paused that was not."""
    entries = pausing.entries_of(shards, name)
    holders = pausing.holders_of(shards, entries)
    for each in holders:
        _require(shards, each, name, functions)
    before = {address: _paused(entry) for address, entry in entries.items()}
    try:
        pausing.on_all(
            holders,
            lambda each: each.host.pause(name, by, functions),
            lambda each: _take_back(each, name, [f for f in functions if f not in before[each.address]]),
        )
    except pausing.NotOnAll as error:
        lost = ", ".join(error.lost)
        left = f" Whether {lost} paused is not known; `gearsync status` shows it." if lost else ""
        raise CommandError(
            f"{' and '.join(functions)} of {name} not paused: {error.message}{left}"
        ) from error


def _paused(entry: dict[str, Any]) -> set[str]:
    return {each["name"] for each in entry.get("functions") or [] if each.get("paused")}


def _take_back(shard: Shard, name: str, functions: Sequence[str]) -> None:
    if functions:
        shard.host.resume(name, functions)


def _require(shards: Shards, shard: Shard, name: str, functions: Sequence[str]) -> None:
    refusal = shard.host.function_pause_refusal or (ON_A_CLUSTER if shards.kind == "cluster" else "")
    if refusal:
        raise CommandError(
            f"a function of {name} can't be paused alone: {refusal}.", f"gearsync pause {name}."
        )
    with errors_of(shard.address):
        found = shard.host.deployments().get(name)
    if found is None:
        return
    deployment = Deployment.from_payload(found.payload)
    known = {each.name: each for each in deployment.functions}
    for each in functions:
        if each not in known:
            names = ", ".join(known)
            raise CommandError(f"{name} has no function {each}.", f"one of {names}.")
        reason = _reason(known[each], deployment)
        if reason:
            raise CommandError(
                f"the function {each} can't be paused alone: {reason}.", f"gearsync pause {name}."
            )


def _reason(function: Function, deployment: Deployment) -> str:
    if function not in deployment.capturing:
        return "it brings nothing to SQL that could wait"
    if deployment.is_through:
        return f"{deployment.name} has write-through functions, whose clients wait for SQL"
    if deployment.is_whole:
        return f"the transactions of {deployment.name} stay whole"
    if function.mapping.type in ("set", "list", "zset"):
        return "the members of its keys are read only when they are applied"
    return ""


def resume(shards: Shards, name: str, functions: Sequence[str]) -> None:
    """Have functions go on, on every shard that answers. Raises CommandError with what did not."""
    entries = pausing.entries_of(shards, name)
    known = {each["name"]: None for entry in entries.values() for each in entry.get("functions") or []}
    unknown = next((each for each in functions if each not in known), None)
    if unknown is not None:
        raise CommandError(
            f"{name} has no function {unknown} that brings writes to SQL.", f"one of {', '.join(known)}."
        )
    holders = pausing.holders_of(shards, entries)
    pausing.on_each(holders, name, lambda each: each.host.resume(name, functions))


def wait_until_held(
    shards: Shards, name: str, functions: Sequence[str], seconds: float, progress: Callable[[str], None]
) -> list[str]:
    """Wait until no worker applies anything of these functions; return the addresses of who still does."""
    return list(
        pausing.wait_while(shards, name, lambda entry: _is_at_work(entry, functions), seconds, progress)
    )


def _is_at_work(entry: dict[str, Any], functions: Sequence[str]) -> bool:
    worker, report = entry["worker"], entry["worker"]["report"] or {}
    if not 0 <= worker["heartbeat_age_ms"] < workers.HEARTBEAT_FRESH_MS or report.get("state") == "paused":
        return False
    targets = {each["target"] for each in entry["functions"] if each["name"] in functions}
    told = [report.get("targets", {}).get(each, {}) for each in targets]
    return any(each.get("holds", 0) < entry.get("holds", 0) for each in told)
