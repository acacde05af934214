"""``gearsync resume``: what has waited since ``gearsync pause`` goes to SQL, in order."""

from __future__ import annotations

import click

from deploy import output
from deploy.options import json_option, redis_option
from deploy.pausing import held, paused_targets, pauses
from deploy.reaching import shards as shard


@click.command()
@click.argument("name")
@redis_option
@click.option(
    "--function",
    "functions",
    metavar="NAME",
    multiple=True,
    help="Resume this function, which was paused alone; may be given several times.",
)
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="Resume this target, which was paused alone; may be given several times.",
)
@json_option
def command(name: str, url: str, functions: tuple[str, ...], targets: tuple[str, ...], as_json: bool) -> None:
    """Have the deployment NAME go on, on every shard; also where it was not paused.

    NAME may also be the file that was deployed. What was captured meanwhile goes to SQL in its order;
    `gearsync wait` waits for it. Functions and targets that were paused alone go on when they are named.
    """
    pauses.require_one_kind(functions, targets)
    name = pauses.name_of(name)
    with shard.connect(url) as shards:
        if functions:
            held.resume(shards, name, functions)
        elif targets:
            paused_targets.resume(shards, name, targets)
        else:
            pauses.resume(shards, name)
    if as_json:
        output.as_json({"deployment": name, **pauses.parts(functions, targets), "state": "active"})
    else:
        goes = "go on" if len(functions) + len(targets) > 1 else "goes on"
        output.line(f"{pauses.named(name, functions, targets)} {goes}.")
