"""gearsync status."""

from __future__ import annotations

from typing import Any

import click

from deploy import options, output, pausing, shards, status


@click.command(name="status")
@options.redis_option
@options.json_option
@click.option("--check", is_flag=True, help="Exit with 1 when something needs attention.")
def command(url: str, as_json: bool, check: bool) -> None:
    """Print what runs where, what waits, and what needs attention.

    Lag is the time from a write to its commit in SQL. The JSON is an object: "shards", a list of
    GEARSYNC.STATUS documents with an "address" each, and "attention", a list of sentences.
    """
    with shards.connect(url) as found:
        statuses = status.fetch(found)
    attention = status.attention(statuses)
    if as_json:
        output.as_json({"shards": statuses, "attention": attention})
    else:
        for each in statuses:
            _print_shard(each)
        if attention:
            output.heading("Needs attention")
            output.bullets(attention)
        else:
            output.line("Nothing needs attention.")
    if check and attention:
        raise click.exceptions.Exit(1)


def _print_shard(shard: dict[str, Any]) -> None:
    output.heading(f"{shard['address']}  {shard['role']}, server {shard['server']}, epoch {shard['epoch']}")
    if shard["deployments"]:
        columns = ["deployment", "version", "state", "worker", "backlog", "lag p50/p99 ms", "dead"]
        output.table(columns, [_row(deployment) for deployment in shard["deployments"]], fold=["deployment"])
        for deployment in shard["deployments"]:
            if paused := pausing.described(deployment):
                output.bullets([f"{deployment['name']} is {paused}"])
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
