"""gearsync status."""

from __future__ import annotations

from typing import Any

import click

from deploy import options, output, status
from deploy.pausing import held, paused_targets, pauses
from deploy.reaching import shards
from deploy.status import Limits
from deploy.watching import watch


@click.command(name="status")
@options.redis_option
@options.json_option
@click.option("--watch", "live", is_flag=True, help="Show it live, with rates and a graph; q or Ctrl-C ends.")
@click.option(
    "--interval",
    metavar="S",
    type=options.Number(0.1, 3600),
    default=1.0,
    show_default=True,
    help="With --watch: the seconds between two looks.",
)
@click.option("--check", is_flag=True, help="Exit with 1 when something needs attention, for probes.")
@click.option(
    "--max-lag-ms",
    metavar="MS",
    type=options.Number(min=0),
    help="A p99 lag above it, or a change that waits for longer, needs attention too.",
)
@click.option(
    "--max-dead-letters",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="So many dead letters of a target need no attention.",
)
@click.option(
    "--max-backlog-share",
    metavar="SHARE",
    type=options.Number(0, 1),
    help="A backlog above this share of its limit, such as 0.8, needs attention before it is full.",
)
def command(url: str, as_json: bool, live: bool, interval: float, check: bool, **limits: Any) -> None:
    """Print what runs where, what waits, and what needs attention.

    Lag is the time from a write to its commit in SQL. The JSON is an object: "shards", a list of
    GEARSYNC.STATUS documents with an "address" each, and "attention", a list of sentences; of a shard that
    is away there are its "address" and the "error", and the exit code is 1. With --watch it is one line a
    look: "at" (seconds since 1970), "shards" with the figures, "attention".

    With --check the exit code is 0 when nothing needs attention, 1 when something does or a shard can't be
    reached, 2 for wrong usage.
    """
    if live and check:
        raise click.UsageError("--check looks once, --watch for ever; give one of them.")
    found_limits = Limits(**limits)
    if live:
        watch.run(url, interval, as_json, found_limits)
        return
    statuses = _statuses(url)
    attention = status.attention(statuses, found_limits)
    if as_json:
        output.as_json({"shards": statuses, "attention": attention})
    else:
        _print(statuses, attention)
    if any("error" in each for each in statuses) or (check and attention):
        raise click.exceptions.Exit(1)


def _statuses(url: str) -> list[dict[str, Any]]:
    """Return the status of each shard; of one of several that is away, its address and the error."""
    with shards.connect(url, needs_host=False) as found:
        statuses = [status.fetch_or_error(each) for each in found.shards]
        away = sum("error" in each for each in statuses)
        if 0 < away < len(statuses):
            return statuses
        found.require_hosts()
        return status.fetch(found) if away else statuses


def _print(statuses: list[dict[str, Any]], attention: list[str]) -> None:
    for each in statuses:
        _print_shard(each)
    if attention:
        output.heading("Needs attention")
        output.bullets(attention)
    else:
        output.line("Nothing needs attention.")


def _print_shard(shard: dict[str, Any]) -> None:
    if "error" in shard:
        output.heading(f"{shard['address']}  away")
        output.line()
        return
    output.heading(f"{shard['address']}  {shard['role']}, server {shard['server']}, epoch {shard['epoch']}")
    if shard["deployments"]:
        columns = ["deployment", "version", "state", "worker", "backlog", "lag p50/p99 ms", "dead"]
        output.table(columns, [_row(deployment) for deployment in shard["deployments"]], fold=["deployment"])
        for deployment in shard["deployments"]:
            if paused := pauses.described(deployment):
                output.bullets([f"{deployment['name']} is {paused}"])
            output.bullets(paused_targets.sentences(deployment))
            output.bullets(held.sentences(deployment))
    else:
        output.line("  Nothing is deployed here.")
    output.line()


def _row(deployment: dict[str, Any]) -> list[object]:
    lag = status.lag(deployment)
    return [
        deployment["name"],
        deployment["version"],
        deployment["state"],
        deployment["worker"]["state"],
        deployment["backlog"]["entries"],
        "-" if lag is None else f"{lag[0]:,.1f} / {lag[1]:,.1f}",
        status.dead_letters(deployment),
    ]
