"""What the shards say about themselves, and what of it needs somebody's attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy import output
from deploy.output import CommandError
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards

#: A worker that has not reported for so long is taken for stuck.
HEARTBEAT_LIMIT_MS = 15_000
#: A paused deployment whose backlog has taken so much of its limit is worth a look.
NEARLY_FULL = 0.8
#: Changes of rows that wait for so long are worth a look.
BEHIND_LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What needs attention beyond what always does; None: any lag, and any backlog that is not full."""

    max_lag_ms: float | None = None
    max_dead_letters: int = 0
    max_backlog_share: float | None = None


NO_LIMITS = Limits()


def fetch(shards: Shards) -> list[dict[str, Any]]:
    """Return each shard's status (docs/design.md, "Module commands"), with its ``address``."""
    return [_of_shard(shard) for shard in shards.shards]


def fetch_or_error(shard: Shard) -> dict[str, Any]:
    """Return one shard's status, or, when that can't be had, its ``address`` and the ``error``."""
    try:
        return _of_shard(shard)
    except CommandError as error:
        return {"address": shard.address, "error": error.message}


def _of_shard(shard: Shard) -> dict[str, Any]:
    with errors_of(shard.address):
        try:
            return {"address": shard.address, **shard.host.status()}
        except ValueError as error:
            raise CommandError(f"the status of {shard.address} is no JSON: {error}.") from error


def attention(statuses: list[dict[str, Any]], limits: Limits = NO_LIMITS) -> list[str]:
    """Return one sentence for each thing that does not run as it should; empty: all is well.

    ``statuses`` may hold shards that are away, as ``fetch_or_error`` has them.
    """
    here = [each for each in statuses if "error" not in each]
    away = [each["error"] for each in statuses if "error" in each]
    return [*away, *_lacking(here), *_apart(here), *_of_deployments(here, limits)]


def _of_deployments(statuses: list[dict[str, Any]], limits: Limits) -> list[str]:
    return [
        f"{deployment['name']} on {status['address']}: {problem}"
        for status in statuses
        for deployment in status["deployments"]
        for problem in [
            *_of_worker(deployment),
            *_of_backlog(deployment, limits),
            *_of_lag(deployment, limits),
            *_of_targets(deployment, limits),
        ]
    ]


def _lacking(statuses: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each shard that lacks what others have, as a new one does."""
    names = [{each["name"] for each in status["deployments"]} for status in statuses]
    active = {each["name"] for one in statuses for each in one["deployments"] if each["state"] != "draining"}
    return [
        f"{status['address']} has no deployment {name}: what is written there is not captured; "
        "deploy again, best before slots move there."
        for status, there in zip(statuses, names)
        for name in sorted(active - there)
    ]


_Shown = list[tuple[str, dict[str, Any]]]
"""A deployment as shards have it, with their addresses."""


def _apart(statuses: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each thing that shards do not have alike.

    A command was killed on its way from shard to shard, or a replica was promoted that had not heard of it.
    """
    found: dict[str, _Shown] = {}
    for one in statuses:
        for each in one["deployments"]:
            found.setdefault(each["name"], []).append((str(one["address"]), each))
    sentences = []
    for name, shown in sorted(found.items()):
        active = [(address, each) for address, each in shown if each["state"] != "draining"]
        ends = ", ".join(address for address, each in shown if each["state"] == "draining")
        if ends and active:
            goes_on = ", ".join(address for address, _ in active)
            does = f"run gearsync undeploy {name}, or deploy again."
            sentences.append(f"{name} is being undeployed on {ends}, and not on {goes_on}: {does}")
        sentences += [*_versions_apart(name, active), *_pauses_apart(name, active)]
    return sentences


def _versions_apart(name: str, shown: _Shown) -> list[str]:
    versions: dict[int, list[str]] = {}
    for address, each in shown:
        versions.setdefault(each["version"], []).append(address)
    if len(versions) < 2:
        return []
    where = " and ".join(f"version {one} on {', '.join(versions[one])}" for one in sorted(versions))
    return [f"{name} is {where}: deploy again, or run gearsync rollback {name}."]


def _pauses_apart(name: str, shown: _Shown) -> list[str]:
    paused = {address: _all_paused(each) for address, each in shown}
    sentences = []
    for target in sorted(set().union(*paused.values())):
        on = ", ".join(address for address in paused if target in paused[address])
        off = ", ".join(address for address in paused if target not in paused[address])
        who, option = (f"target {target} of {name}", f" --target {target}") if target else (name, "")
        if off:
            does = f"run gearsync pause {name}{option}, or resume."
            sentences.append(f"{who} is paused on {on}, and not on {off}: {does}")
    return sentences


def _all_paused(deployment: dict[str, Any]) -> set[str]:
    """Return the targets that are paused alone, and an empty name for the whole deployment."""
    whole = {""} if deployment.get("paused") else set()
    return whole | {str(each["name"]) for each in deployment["targets"] if each.get("paused")}


def filled(deployment: dict[str, Any]) -> float:
    """Return how much of its limit the backlog has taken, 0 to 1; 0 when there is no limit."""
    backlog = deployment["backlog"]
    limits = [(backlog[what], backlog[f"limit_{what}"]) for what in ("entries", "bytes")]
    return max((count / limit for count, limit in limits if limit), default=0.0)


def dead_letters(deployment: dict[str, Any]) -> int:
    """Return how many dead letters a deployment has on one shard."""
    return sum(int(target["dead_letters"]) for target in deployment["targets"])


def lag(deployment: dict[str, Any]) -> tuple[float, float] | None:
    """Return (p50, p99) in milliseconds from a write to its commit, the worst target's; None: not known."""
    known = [
        (float(target["lag_ms"]["p50"]), float(target["lag_ms"]["p99"]))
        for target in _reported_targets(deployment).values()
        if target.get("lag_ms") and target["lag_ms"].get("p99") is not None
    ]
    return max(known, key=lambda pair: pair[1]) if known else None


def _reported_targets(deployment: dict[str, Any]) -> dict[str, Any]:
    report = deployment["worker"].get("report") or {}
    targets: dict[str, Any] = report.get("targets") or {}
    return targets


def _of_worker(deployment: dict[str, Any]) -> list[str]:
    worker = deployment["worker"]
    report = worker.get("report") or {}
    problems = []
    if worker["state"] in ("stopped", "backoff", "fenced"):
        last = f" ({worker['last_exit']})" if worker.get("last_exit") else ""
        start = "; start gearsync worker" if worker["mode"] == "external" else ""
        problems.append(f"its worker does not run: {worker['state']}{last}{start}.")
    elif worker["heartbeat_age_ms"] > HEARTBEAT_LIMIT_MS:
        problems.append(f"its worker has not reported for {worker['heartbeat_age_ms'] // 1000} s.")
    if report.get("error"):
        problems.append(_sentence(f"{report.get('state', 'worker')}: {report['error']}"))
    for name, target in _reported_targets(deployment).items():
        if target.get("state") == "waiting" and target.get("last_error"):
            problems.append(_sentence(f"target {name} waits: {target['last_error']}"))
        behind = target.get("around", {}).get("behind_s", 0)
        if behind >= BEHIND_LIMIT_SECONDS:
            problems.append(f"rows that changed in target {name} wait for {behind:.0f} s to reach Redis.")
    return problems


def _of_lag(deployment: dict[str, Any], limits: Limits) -> list[str]:
    if limits.max_lag_ms is None:
        return []
    problems = []
    known = lag(deployment)
    if known is not None and known[1] > limits.max_lag_ms:
        problems.append(f"its p99 lag is {known[1]:,.0f} ms, above {limits.max_lag_ms:,.0f} ms.")
    # What waits has no lag yet: with the database away there would be none at all.
    # What a pause holds back waits on purpose.
    lanes = [
        lane
        for target in deployment["targets"]
        for lane in target.get("lanes", [])
        if lane.get("status") != "held" and not target.get("paused")
    ]
    oldest = max((lane.get("oldest_ms", 0) for lane in lanes), default=0)
    if oldest > limits.max_lag_ms:
        problems.append(f"a change waits for {oldest:,} ms, longer than {limits.max_lag_ms:,.0f} ms.")
    return problems


def _of_backlog(deployment: dict[str, Any], limits: Limits) -> list[str]:
    problems = []
    most = limits.max_backlog_share
    if most is not None and filled(deployment) > most and not deployment["backlog"]["full"]:
        problems.append(f"the backlog is at {filled(deployment):.0%} of its limit, above {most:.0%}.")
    who, option = _paused(deployment)
    if who and not deployment["backlog"]["full"] and filled(deployment) >= NEARLY_FULL:
        problems.append(
            f"{who} is paused, and its backlog is at {filled(deployment):.0%} of its limit; "
            f"gearsync resume {deployment['name']}{option}."
        )
    if deployment["backlog"]["full"]:
        does = "covered writes are refused" if deployment["backlog"]["on_full"] == "refuse" else "it grows on"
        problems.append(f"the backlog is at its limit, {does}.")
    if deployment.get("missed"):
        problems.append(
            f"{output.counted(deployment['missed'], 'write was', 'writes were')} to keys that fit "
            f"no template, the last to {_shown_key(deployment['missed_key'])}."
        )
    if deployment.get("failed"):
        reason = deployment.get("failed_because")
        why = f"the last: {reason}" if reason else "see the server's log"
        problems.append(
            _sentence(f"{output.counted(deployment['failed'], 'change')} could not be captured; {why}")
        )
    return problems


def _paused(deployment: dict[str, Any]) -> tuple[str, str]:
    """Return what is paused, and the option that resumes it; both empty: nothing is."""
    if deployment.get("paused"):
        return "it", ""
    target = next((each["name"] for each in deployment["targets"] if each.get("paused")), "")
    if target:
        return f"its target {target}", f" --target {target}"
    paused = (each["name"] for each in deployment.get("functions") or [] if each.get("paused"))
    function = next(paused, "")
    return (f"its function {function}", f" --function {function}") if function else ("", "")


def _shown_key(key: str) -> str:
    """Return the text of a key that the module wrote one character a byte."""
    return key.encode("latin-1").decode("utf-8", "backslashreplace")


def _of_targets(deployment: dict[str, Any], limits: Limits) -> list[str]:
    return [
        f"{output.counted(target['dead_letters'], 'dead letter')} of target {target['name']}; "
        "see gearsync deadletters list."
        for target in deployment["targets"]
        if target["dead_letters"] > limits.max_dead_letters
    ]


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."
