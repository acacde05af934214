"""``gearsync pause``: a deployment's changes wait in Redis, and nothing goes to SQL."""

from __future__ import annotations

import getpass

import click

from deploy import output, pausing
from deploy import shards as shard
from deploy.hosts.base import Pause
from deploy.options import json_option, redis_option
from deploy.output import CommandError
from deploy.progress import Progress


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in some containers.
        return ""


@click.command()
@click.argument("name")
@redis_option
@click.option("--reason", metavar="TEXT", default="", help="Why; shown in the status and to clients.")
@click.option("--by", metavar="WHO", default=_who, help="Who; the user of this system unless given.")
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="How many seconds the batches in flight may take to end.",
)
@json_option
def command(name: str, url: str, reason: str, by: str, timeout: float, as_json: bool) -> None:
    """Pause the deployment NAME on every shard, or on none: its changes wait until `gearsync resume`.

    Capture goes on, up to the backlog's bound. The worker ends the batch in flight and leaves the databases
    alone. Writes that wait for SQL (write-through) are refused at once, and a read of a key that is not in
    Redis fails or misses, as its function says. Ends when no worker applies anything.
    """
    with shard.connect(url) as shards:
        pausing.pause(shards, name, Pause(by, reason))
        with Progress() as progress:
            busy = pausing.wait_until_still(shards, name, timeout, progress.show)
    if busy:
        raise CommandError(
            f"{name} is paused, but after {timeout:g} s the worker on {', '.join(busy)} still has a batch at "
            "its database.",
            "it begins no other; `gearsync status` shows when it is through.",
        )
    if as_json:
        output.as_json({"deployment": name, "state": "paused", "by": by, "reason": reason})
    else:
        output.line(f"{name} is paused: its changes wait until `gearsync resume {name}`.")
