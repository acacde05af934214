"""Whether the workers of a deployment run, read from the shards' status documents."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy import status
from deploy.reaching.shards import Shards
from deploy.watching.look import Watch

HEARTBEAT_FRESH_MS = 5000
"""A heartbeat older than this is of a worker that is gone, or that hangs."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class WorkerState:
    """The worker of one deployment on one shard.

    ``state``: ``running``, ``starting``, ``waiting`` (for its database), ``paused``, ``failed``, ``external``
    (it runs elsewhere, and has not been seen), or ``out of sight`` (its shard is away, or a replica by now).
    ``detail`` says more; it may be empty.
    """

    address: str
    state: str
    detail: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether waiting longer would change nothing."""
        return self.state in ("running", "paused", "failed", "external")


def entry_of(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what a shard's status says of one deployment; None when it has none of that name."""
    for entry in document["deployments"]:
        if entry["name"] == name:
            return dict(entry)
    return None


def look(
    document: dict[str, Any], name: str, version: int, restarts_before: int | None = None
) -> WorkerState:
    """Read the state of the worker of version ``version``.

    ``restarts_before``: how often the worker had been restarted when this version came, so that a backoff
    of the version before is not taken for one of this; None: there was no version before.
    """
    address = str(document["address"])
    if "error" in document or document.get("role") == "replica":
        error = str(document.get("error", "it is a replica now"))
        return WorkerState(address, "out of sight", error.rstrip("."))
    entry = entry_of(document, name)
    if entry is None:
        return WorkerState(address, "failed", f"there is no deployment {name} on this shard any more")
    worker = entry["worker"]
    report = worker["report"] or {}
    if report.get("version") == version and 0 <= worker["heartbeat_age_ms"] < HEARTBEAT_FRESH_MS:
        return _from_report(address, report)
    if worker["mode"] == "external":
        return WorkerState(address, "external")
    if worker["state"] in ("backoff", "fenced"):
        is_of_this_version = restarts_before is None or worker["restarts"] > restarts_before
        if is_of_this_version:
            return WorkerState(address, "failed", f"{worker['last_exit']} (the server's log says more)")
    # As a replica that was promoted before it had heard of this one.
    older = f"version {entry['version']} is there" if entry["version"] < version else ""
    return WorkerState(address, "starting", older)


def _from_report(address: str, report: dict[str, Any]) -> WorkerState:
    state = str(report.get("state", ""))
    if state in ("failed", "fenced"):
        return WorkerState(address, "failed", str(report.get("error") or state))
    targets = [str(target.get("state", "running")) for target in report.get("targets", {}).values()]
    if state == "waiting" or (state == "running" and "waiting" in targets):
        return WorkerState(address, "waiting", _last_error(report))
    if state == "paused":
        return WorkerState(address, "paused", "nothing is applied until `gearsync resume`")
    if state == "running" and "starting" not in targets:
        return WorkerState(address, "running")
    return WorkerState(address, "starting", "installing requirements" if state == "installing" else "")


def _last_error(report: dict[str, Any]) -> str:
    errors = [
        f"{name}: {target['last_error']}"
        for name, target in report.get("targets", {}).items()
        if target.get("last_error")
    ]
    return "; ".join(errors) or str(report.get("error", ""))


def restarts(shards: Shards, name: str) -> dict[str, int]:
    """Return how often the worker of a deployment was restarted, by the shard's address; no entry: not
    deployed.
    """
    counts = {}
    for document in status.fetch(shards):
        entry = entry_of(document, name)
        if entry is not None:
            counts[str(document["address"])] = int(entry["worker"]["restarts"])
    return counts


def wait_until_running(
    shards: Shards,
    name: str,
    version: int,
    restarts_before: dict[str, int],
    timeout: float,
    progress: Callable[[list[WorkerState]], None],
) -> list[WorkerState]:
    """Wait until the worker on every shard runs this version, or one failed, or ``timeout`` seconds are
    over.

    Returns the last states, one a shard; ``progress`` gets them at each look. Who is lost on the way is
    looked for again, since a replica may have been promoted.
    """
    deadline = time.monotonic() + timeout
    with Watch(shards) as watch:
        while True:
            states = [
                look(each, name, version, restarts_before.get(str(each["address"]))) for each in watch.look()
            ]
            progress(states)
            failed = any(each.state == "failed" for each in states)
            if failed or all(each.is_settled for each in states) or time.monotonic() >= deadline:
                return states
            time.sleep(POLL_SECONDS)
