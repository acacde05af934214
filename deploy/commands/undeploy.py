"""``gearsync undeploy``: end a deployment, its waiting changes applied or dropped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click

from deploy import output, status, workers
from deploy.backfill.place import Place
from deploy.options import Number, json_option, redis_option
from deploy.output import CommandError
from deploy.progress import Progress
from deploy.reaching import shards as shard
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shards
from deploy.rollout.report import counted
from deploy.watching.look import Watch


@dataclass
class _Left:
    """What of a deployment is still on a shard."""

    address: str
    changes: int
    dead_letters: int
    worker: str
    is_draining: bool
    away: str = ""
    """Why it is not known; empty: it is."""


@click.command()
@click.argument("name")
@redis_option
@click.option(
    "--discard", is_flag=True, help="Drop the changes and dead letters that wait, instead of applying them."
)
@click.option(
    "--timeout",
    metavar="S",
    type=Number(min=0),
    default=60,
    show_default=True,
    help="How many seconds the waiting changes may take.",
)
@json_option
def command(name: str, url: str, discard: bool, timeout: float, as_json: bool) -> None:
    """End the deployment NAME on every shard: capture stops at once, then what waits goes to SQL.

    The tables keep their rows.
    """
    with shard.connect(url) as shards:
        before = _left(status.fetch(shards), name)
        if not before:
            raise CommandError(f"there is no deployment {name}.", "`gearsync status` shows those there are.")
        # What is written from then on is captured by nobody: a backfill can't go on where it was. Before, for
        # this command may be killed; and after, for one may run just now.
        Place(name).forget(shards)
        _stop_capture(shards, name, {each.address for each in before}, discard)
        Place(name).forget(shards)
        try:
            with Progress() as progress:
                left = _wait(shards, name, discard, timeout, progress)
        except KeyboardInterrupt:
            raise CommandError(
                f"interrupted; {name} captures no more, and goes by itself when its changes are in SQL.",
                "run the same command again to watch.",
            ) from None
    _require_gone(name, left, timeout)
    waited = sum(each.changes for each in before)
    dead = sum(each.dead_letters for each in before)
    if as_json:
        document = {
            "deployment": name,
            "shards": len(before),
            "discarded": discard,
            "changes": waited,
            "dead_letters": dead,
        }
        output.as_json(document)
        return
    where = counted(len(before), "shard")
    done = "dropped" if discard else "applied"
    what = f"{counted(waited, 'waiting change')} {done}" if waited else "no change was waiting"
    dropped = f", {counted(dead, 'dead letter')} dropped" if dead and discard else ""
    output.line(f"{name} is gone from {where}; {what}{dropped}.")


def _left(documents: list[dict[str, Any]], name: str) -> list[_Left]:
    found = []
    for document in documents:
        address, is_replica = str(document["address"]), document.get("role") == "replica"
        if "error" in document or is_replica:
            why = "it is a replica now" if is_replica else str(document["error"]).rstrip(".")
            found.append(_Left(address, 0, 0, "", True, why))
            continue
        entry = workers.entry_of(document, name)
        if entry is not None:
            dead = sum(int(target["dead_letters"]) for target in entry["targets"])
            found.append(
                _Left(
                    address,
                    int(entry["backlog"]["entries"]),
                    dead,
                    _worker(entry),
                    entry["state"] == "draining",
                )
            )
    return found


def _worker(entry: dict[str, Any]) -> str:
    """Return how the worker is, in words that end a sentence; empty when it is well."""
    state = workers.look({"address": "", "deployments": [entry]}, entry["name"], entry["version"])
    return "" if state.state == "running" else f"{state.state}{f', {state.detail}' if state.detail else ''}"


def _stop_capture(shards: Shards, name: str, addresses: set[str], discard: bool) -> None:
    """Tell every shard, also when one refuses: what is half undeployed is finished by the same command
    again.
    """
    errors = []
    for each in shards.shards:
        if each.address not in addresses:
            continue
        try:
            with errors_of(each.address):
                each.host.undeploy(name, discard)
        except ShardError as error:
            errors.append(error.message)
    if errors:
        raise CommandError(
            f"not every shard could be told: {' '.join(errors)}",
            "see to that, then run the same command again.",
        )


def _wait(shards: Shards, name: str, discard: bool, timeout: float, progress: Progress) -> list[_Left]:
    """Wait until it is gone; return what is left. Who is lost on the way is looked for again, and a replica
    that was promoted and had not heard of the end is told of it.
    """
    deadline = time.monotonic() + timeout
    told = set(shards.addresses)
    with Watch(shards) as watch:
        while True:
            left = _left(watch.look(), name)
            if not left or time.monotonic() >= deadline:
                return left
            if new := {each.address for each in left if not each.is_draining and each.address not in told}:
                told |= new
                _stop_capture(watch.shards, name, new, discard)
            elif not any(each.changes or each.away for each in left):
                if any(each.dead_letters for each in left):
                    return left
                if all(each.is_draining for each in left):
                    _finish(watch.shards, name)
            progress.show("; ".join(_describe(each) for each in left))
            time.sleep(workers.POLL_SECONDS)


def _finish(shards: Shards, name: str) -> None:
    for each in shards.shards:
        with errors_of(each.address):
            each.host.finish(name)


def _describe(left: _Left) -> str:
    if left.away:
        return f"{left.address}: {left.away}"
    worker = f" (worker {left.worker})" if left.worker else ""
    what = f"{counted(left.changes, 'change')} to apply" if left.changes else "ending"
    return f"{left.address}: {what}{worker}"


def _require_gone(name: str, left: list[_Left], timeout: float) -> None:
    if not left:
        return
    changes, dead = (sum(getattr(each, what) for each in left) for what in ("changes", "dead_letters"))
    if not changes and dead and not any(each.away for each in left):
        raise CommandError(
            f"{name} captures no more and its changes are applied, but {counted(dead, 'dead letter')} of "
            "it remain; "
            "it stays, draining, until they are settled.",
            "`gearsync deadletters list` shows them; drop them with `gearsync deadletters drop --all "
            f"--deployment {name}`, or with this command and --discard.",
        )
    raise CommandError(
        f"after {timeout:g} s {name} is still draining: {'; '.join(_describe(each) for each in left)}. It "
        "captures no "
        "more, and goes by itself when the changes are in SQL.",
        "bring its database or worker back and run the same command again to watch, or give the changes up "
        "with "
        "--discard.",
    )
