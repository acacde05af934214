"""``gearsync resume``: what has waited since ``gearsync pause`` goes to SQL, in order."""

from __future__ import annotations

import click

from deploy import output, pausing
from deploy import shards as shard
from deploy.options import json_option, redis_option


@click.command()
@click.argument("name")
@redis_option
@json_option
def command(name: str, url: str, as_json: bool) -> None:
    """Have the deployment NAME go on, on every shard; also where it was not paused.

    What was captured meanwhile goes to SQL in its order. `gearsync wait` waits for it.
    """
    with shard.connect(url) as shards:
        pausing.resume(shards, name)
    if as_json:
        output.as_json({"deployment": name, "state": "active"})
    else:
        output.line(f"{name} goes on.")
