"""Have a deployment wait on all shards, or on none, and go on again; what pauses of parts share with that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from deploy import status, workers
from deploy.hosts.base import Pause, Pauses
from deploy.output import CommandError
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shard, Shards

AT_WORK = ("running", "waiting", "starting")
"""What a worker says that may have something on its way to a database."""


def name_of(name: str) -> str:
    """Return the name of a deployment that was given as such, or as the file that was deployed."""
    if name.endswith((".py", ".toml")) or os.sep in name:
        # It needs the database's library, whose import takes longer than all the rest of a command's start.
        from deploy import sources

        return sources.load(name, None).name
    return name


def require_one_kind(functions: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse what names both functions and targets. Raises click.UsageError."""
    if functions and targets:
        raise click.UsageError("give --function or --target, not both.")


def named(name: str, functions: Sequence[str], targets: Sequence[str]) -> str:
    """Return what of a deployment is meant, for a sentence: all of it, or these functions or targets."""
    if functions:
        return f"{' and '.join(functions)} of {name}"
    return f"target {' and '.join(targets)} of {name}" if targets else name


def parts(functions: Sequence[str], targets: Sequence[str]) -> dict[str, list[str]]:
    """Return the same for JSON."""
    found = {"functions": list(functions), "targets": list(targets)}
    return {what: names for what, names in found.items() if names}


def pause_of(deployment: dict[str, Any]) -> Pause | None:
    """Return who paused a deployment, or a target, from its part of a status; None: it goes on."""
    paused = deployment.get("paused")
    return None if paused is None else Pause(_text(paused["by"]), _text(paused["reason"]))


def described(deployment: dict[str, Any]) -> str:
    """Return ``paused since … by …: why``; empty: it goes on."""
    paused = deployment.get("paused")
    if paused is None:
        return ""
    since = datetime.fromtimestamp(paused["since_ms"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    by = f" by {_text(paused['by'])}" if paused["by"] else ""
    why = f": {_text(paused['reason'])}" if paused["reason"] else ""
    return f"paused since {since}{by}{why}"


def _text(written: str) -> str:
    """The module writes one character a byte."""
    return written.encode("latin-1").decode("utf-8", "backslashreplace")


def pause(shards: Shards, name: str, by: Pause) -> None:
    """Pause on all shards that have the deployment. Raises CommandError; then none is paused that was not."""
    entries = entries_of(shards, name)
    paused = {address for address, entry in entries.items() if pause_of(entry) is not None}
    holders = holders_of(shards, entries)
    try:
        on_all(
            holders,
            lambda each: each.host.pause(name, by),
            lambda each: None if each.address in paused else each.host.resume(name),
        )
    except NotOnAll as error:
        lost = ", ".join(error.lost)
        left = f" Whether {lost} paused it is not known; `gearsync resume {name}`." if lost else ""
        raise CommandError(f"{name} was not paused: {error.message}{left}") from error


class NotOnAll(ShardError):
    """A shard failed, and what was done on others was taken back, but for ``lost``, where that failed too."""

    def __init__(self, message: str, lost: Sequence[str]) -> None:
        super().__init__(message)
        self.lost = lost

    def told(self, whom: str) -> CommandError:
        """Return what to tell who wanted to have these paused."""
        lost = ", ".join(self.lost)
        left = f" Whether {lost} paused is not known; `gearsync status` shows it." if lost else ""
        return CommandError(f"{whom} not paused: {self.message}{left}")


def on_all(
    holders: Sequence[Shard], act: Callable[[Shard], None], take_back: Callable[[Shard], None]
) -> None:
    """Do something on all shards or on none. Raises NotOnAll."""
    for at, each in enumerate(holders):
        try:
            with errors_of(each.address):
                act(each)
        except ShardError as error:
            # Who failed may have done it all the same.
            raise NotOnAll(error.message, _taken_back(holders[: at + 1], take_back)) from error


def _taken_back(done: Sequence[Shard], take_back: Callable[[Shard], None]) -> list[str]:
    """Return the addresses of those that could not take it back."""
    lost = []
    for each in done:
        try:
            with errors_of(each.address):
                take_back(each)
        except ShardError:
            lost.append(each.address)
    return lost


def resume(shards: Shards, name: str) -> None:
    """Have the deployment go on on every shard that answers. Raises CommandError with what did not."""
    on_each(holders_of(shards, entries_of(shards, name)), name, lambda each: each.host.resume(name))


def on_each(holders: Sequence[Shard], name: str, act: Callable[[Shard], None]) -> None:
    """Do something that has a deployment go on. Raises CommandError with what did not."""
    errors = []
    for each in holders:
        try:
            with errors_of(each.address):
                act(each)
        except ShardError as error:
            errors.append(error.message)
    if errors:
        raise CommandError(f"not every shard resumed {name}: {' '.join(errors)}", "run the command again.")


def entries_of(shards: Shards, name: str) -> dict[str, dict[str, Any]]:
    """Return what each shard that has a deployment says of it, by address. Raises CommandError: none has."""
    entries = {
        str(each["address"]): entry
        for each in status.fetch(shards)
        if (entry := workers.entry_of(each, name)) is not None
    }
    if not entries:
        raise CommandError(f"there is no deployment {name}.", "`gearsync status` shows those there are.")
    return entries


def holders_of(shards: Shards, entries: Mapping[str, Any]) -> list[Shard]:
    """Return the shards that have the deployment of ``entries_of``."""
    return [each for each in shards.shards if each.address in entries]


def wait_until_still(
    shards: Shards, name: str, seconds: float, progress: Callable[[str], None]
) -> dict[str, str]:
    """Wait until each worker has ended its last batch; return what is still at work, by address.

    Only what a worker reports after this call counts: before it could have been paused for another time.
    """
    began = time.monotonic()

    def is_at_work(entry: dict[str, Any]) -> bool:
        return _is_at_work(entry, (time.monotonic() - began) * 1000)

    return wait_while(shards, name, is_at_work, seconds, progress)


def wait_while(
    shards: Shards,
    name: str,
    is_at_work: Callable[[dict[str, Any]], bool],
    seconds: float,
    progress: Callable[[str], None],
) -> dict[str, str]:
    """Wait while workers are at work, by the status; return the states of who still is, by address."""
    deadline = time.monotonic() + seconds
    while True:
        entries = ((str(each["address"]), workers.entry_of(each, name)) for each in status.fetch(shards))
        busy = {
            address: str((entry["worker"]["report"] or {}).get("state", ""))
            for address, entry in entries
            if entry is not None and is_at_work(entry)
        }
        if not busy or time.monotonic() >= deadline:
            return busy
        progress(f"Waiting for the last batch on {', '.join(busy)}")
        time.sleep(workers.POLL_SECONDS)


def reports(entry: dict[str, Any]) -> bool:
    """Whether a worker tells what it does; one that hangs, or is gone, has nothing at its databases."""
    return bool(0 <= entry["worker"]["heartbeat_age_ms"] < workers.HEARTBEAT_FRESH_MS)


def is_old(entry: dict[str, Any], passed_ms: float) -> bool:
    """Whether the last report is from before a pause that began so many milliseconds ago."""
    return bool(entry["worker"]["heartbeat_age_ms"] >= passed_ms)


def _is_at_work(entry: dict[str, Any], passed_ms: float) -> bool:
    if not reports(entry):
        return False
    return is_old(entry, passed_ms) or (entry["worker"]["report"] or {}).get("state") in AT_WORK


def on_any(documents: Sequence[dict[str, Any]], name: str) -> Pauses:
    """Return the pauses of a deployment, each of whichever shard has one."""
    found = (workers.entry_of(each, name) for each in documents)
    entries = [each for each in found if each is not None]
    whole = next((pause for each in entries if (pause := pause_of(each))), None)
    targets = {
        target["name"]: pause
        for each in entries
        for target in each["targets"]
        if (pause := pause_of(target)) is not None
    }
    return Pauses(whole, targets)
