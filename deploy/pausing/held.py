"""Functions that are paused alone: have them wait on all shards, or on none, and go on again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from deploy import output
from deploy.hosts.base import Pause
from deploy.output import CommandError
from deploy.pausing import paused_targets, pauses
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function

ON_A_CLUSTER = "on a Redis Cluster, keys that move to another shard could overtake what is held back"


def state(function: dict[str, Any]) -> str:
    """Return ``paused``, ``resuming`` (what was held goes to SQL now), or nothing, from its status."""
    if function.get("paused"):
        return "paused"
    return "resuming" if "held" in function else ""


def sentences(deployment: dict[str, Any]) -> list[str]:
    """Return a sentence for each function of a deployment's status that is paused, or going on."""
    return [
        f"{each['name']} is {pauses.described(each) or 'resumed'}; "
        f"{output.counted(each['held'], 'change is', 'changes are')} held back"
        for each in deployment.get("functions") or []
        if state(each)
    ]


def held_of(shards: Shards, function: Function, name: str) -> list[str]:
    """Return a sentence for each shard where a function waits: it, its target, or all of the deployment."""
    sentences = []
    for address, entry in pauses.entries_of(shards, name).items():
        if paused := pauses.described(entry):
            sentences.append(f"{name} is {paused} on {address}: what differs and waits is undecided.")
        waits = paused_targets.of(entry).get(function.target_name)
        if waits is not None:
            sentences.append(
                f"target {function.target_name} is {pauses.described(waits)} on {address}, and "
                f"{output.counted(paused_targets.waiting(waits), 'change waits', 'changes wait')}: "
                "what differs of their keys is undecided."
            )
        sentences += [
            f"{function.name} is {pauses.described(each)} on {address}, with "
            f"{output.counted(each['held'], 'change')} held back: what differs of their keys is undecided."
            for each in entry.get("functions") or []
            if each["name"] == function.name and each.get("paused")
        ]
    return sentences


class Ways(NamedTuple):
    """How functions are paused on one shard: whole targets that carry nothing else, and held streams."""

    targets: list[str]
    functions: list[str]


def pause(shards: Shards, name: str, functions: Sequence[str], by: Pause) -> None:
    """Pause on all shards that have the deployment. Raises CommandError; then none is paused that was not."""
    entries = pauses.entries_of(shards, name)
    holders = pauses.holders_of(shards, entries)
    ways = {each.address: _ways(shards, each, name, functions) for each in holders}
    before = {a: Ways(list(paused_targets.of(e)), list(_paused(e))) for a, e in entries.items()}

    def act(shard: Shard) -> None:
        targets, held = ways[shard.address]
        if targets:
            shard.host.pause(name, by, targets=targets)
        if held:
            shard.host.pause(name, by, functions=held)

    def take_back(shard: Shard) -> None:
        (targets, held), known = ways[shard.address], before[shard.address]
        _resume(shard, name, Ways(_without(targets, known.targets), _without(held, known.functions)))

    try:
        pauses.on_all(holders, act, take_back)
    except pauses.NotOnAll as error:
        raise error.told(f"{' and '.join(functions)} of {name}") from error


def _paused(entry: dict[str, Any]) -> set[str]:
    return {each["name"] for each in entry.get("functions") or [] if each.get("paused")}


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    return [each for each in names if each not in others]


def _resume(shard: Shard, name: str, ways: Ways) -> None:
    if ways.targets:
        shard.host.resume(name, targets=ways.targets)
    if ways.functions:
        shard.host.resume(name, functions=ways.functions)


def _ways(shards: Shards, shard: Shard, name: str, functions: Sequence[str]) -> Ways:
    ways = Ways([], [])
    deployment = _deployment(shard, name)
    if deployment is None:
        return ways
    for each in functions:
        function = _find(deployment, each)
        reason = _never(function, deployment)
        if reason:
            raise CommandError(
                f"the function {each} can't be paused alone: {reason}.", f"gearsync pause {name}."
            )
        if _has_own_target(function, deployment):
            ways.targets.append(function.target_name)
            continue
        reason = (
            shard.host.function_pause_refusal
            or (ON_A_CLUSTER if shards.kind == "cluster" else "")
            or _not_beside_others(function, deployment)
        )
        if reason:
            raise CommandError(
                f"the function {each} can't be paused alone: {reason}.",
                f'give it a target of its own, Target("env:...", name="..."), which may be to the same '
                f"database; or pause all of its target: gearsync pause {name} --target "
                f"{function.target_name}.",
            )
        ways.functions.append(each)
    return ways


def _deployment(shard: Shard, name: str) -> Deployment | None:
    with errors_of(shard.address):
        found = shard.host.deployments().get(name)
        return None if found is None or not found.payload else Deployment.from_payload(found.payload)


def _find(deployment: Deployment, name: str) -> Function:
    known = {each.name: each for each in deployment.functions}
    if name not in known:
        raise CommandError(f"{deployment.name} has no function {name}.", f"one of {', '.join(known)}.")
    return known[name]


def _has_own_target(function: Function, deployment: Deployment) -> bool:
    return [each for each in deployment.functions if each.target_name == function.target_name] == [function]


def _never(function: Function, deployment: Deployment) -> str:
    if function not in deployment.capturing:
        return "it brings nothing to SQL that could wait"
    return "its clients wait for SQL" if deployment.is_through else ""


def _not_beside_others(function: Function, deployment: Deployment) -> str:
    if deployment.is_whole:
        return f"the transactions of {deployment.name} stay whole"
    if function.mapping.type in ("set", "list", "zset"):
        return "the members of its keys are read only when they are applied"
    return ""


def resume(shards: Shards, name: str, functions: Sequence[str]) -> None:
    """Have functions go on, on every shard that answers. Raises CommandError with what did not."""
    entries = pauses.entries_of(shards, name)
    holders = pauses.holders_of(shards, entries)
    ways = {each.address: _back(each, name, functions, entries[each.address]) for each in holders}
    pauses.on_each(holders, name, lambda each: _resume(each, name, ways[each.address]))


def _back(shard: Shard, name: str, functions: Sequence[str], entry: dict[str, Any]) -> Ways:
    ways = Ways([], list(functions))
    deployment = _deployment(shard, name)
    if deployment is None:
        return ways
    for each in functions:
        function = _find(deployment, each)
        if _never(function, deployment):
            names = ", ".join(f.name for f in deployment.capturing)
            raise CommandError(
                f"{each} of {name} is no function that is ever paused alone.", f"one of {names}."
            )
        if function.target_name not in paused_targets.of(entry):
            continue
        if not _has_own_target(function, deployment):
            raise CommandError(
                f"{each} of {name} waits with all that goes to its target {function.target_name}.",
                f"gearsync resume {name} --target {function.target_name}.",
            )
        ways.targets.append(function.target_name)
    return ways


def wait_until_held(
    shards: Shards, name: str, functions: Sequence[str], seconds: float, progress: Callable[[str], None]
) -> list[str]:
    """Wait until no worker applies anything of these functions; return the addresses of who still does."""
    began = time.monotonic()

    def is_at_work(entry: dict[str, Any]) -> bool:
        return _is_at_work(entry, functions, (time.monotonic() - began) * 1000)

    return list(pauses.wait_while(shards, name, is_at_work, seconds, progress))


def _is_at_work(entry: dict[str, Any], functions: Sequence[str], passed_ms: float) -> bool:
    report = entry["worker"]["report"] or {}
    if not pauses.reports(entry) or report.get("state") == "paused":
        return False
    targets = {each["target"] for each in entry["functions"] if each["name"] in functions}
    whole = targets & set(paused_targets.of(entry))
    if paused_targets.is_at_work(entry, list(whole), passed_ms):
        return True
    told = [report.get("targets", {}).get(each, {}) for each in targets - whole]
    return any(each.get("holds", 0) < entry.get("holds", 0) for each in told)
