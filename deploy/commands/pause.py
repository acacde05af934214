"""``gearsync pause``: a deployment's changes wait in Redis, and nothing goes to SQL."""

from __future__ import annotations

import getpass
import shlex

import click

from deploy import output
from deploy.hosts.base import Pause
from deploy.options import Number, json_option, redis_option
from deploy.output import CommandError
from deploy.pausing import held, paused_targets, pauses
from deploy.progress import Progress
from deploy.reaching import shards as shard


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in some containers.
        return ""


@click.command()
@click.argument("name")
@redis_option
@click.option(
    "--function",
    "functions",
    metavar="NAME",
    multiple=True,
    help="Pause only this function; may be given several times.",
)
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="Pause only what goes to this target; may be given several times.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; shown in the status and to clients.")
@click.option("--by", metavar="WHO", default=_who, help="Who; the user of this system unless given.")
@click.option(
    "--timeout",
    metavar="S",
    type=Number(min=0),
    default=30,
    show_default=True,
    help="How many seconds the batches in flight may take to end.",
)
@json_option
def command(
    name: str,
    url: str,
    functions: tuple[str, ...],
    targets: tuple[str, ...],
    reason: str,
    by: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Pause the deployment NAME on every shard, or on none: its changes wait until `gearsync resume`.

    NAME may also be the file that was deployed. Capture goes on, up to the backlog's bound. The worker ends
    the batch in flight and leaves the databases alone. Writes that wait for SQL (write-through) are refused
    at once, and a read of a key that is not in Redis fails or misses, as its function says. Ends when no
    worker applies anything. With --target, all other targets go on; with --function, all other functions.
    """
    pauses.require_one_kind(functions, targets)
    name = pauses.name_of(name)
    what = pauses.named(name, functions, targets)
    with shard.connect(url) as shards, Progress() as progress:
        if functions:
            held.pause(shards, name, functions, Pause(by, reason))
        elif targets:
            paused_targets.pause(shards, name, targets, Pause(by, reason))
        else:
            pauses.pause(shards, name, Pause(by, reason))
        try:
            if functions:
                busy = held.wait_until_held(shards, name, functions, timeout, progress.show)
            elif targets:
                busy = paused_targets.wait_until_still(shards, name, targets, timeout, progress.show)
            else:
                busy = list(pauses.wait_until_still(shards, name, timeout, progress.show))
        except KeyboardInterrupt:
            raise CommandError(
                f"interrupted; {what} is paused, and a worker may still have a batch at its database.",
                "`gearsync status` shows when it is through.",
            ) from None
    if busy:
        raise CommandError(
            f"{what} is paused, but after {timeout:g} s the worker on {', '.join(busy)} still has a batch at "
            "its database.",
            "it begins no other; `gearsync status` shows when it is through.",
        )
    if as_json:
        more = pauses.parts(functions, targets)
        output.as_json({"deployment": name, **more, "state": "paused", "by": by, "reason": reason})
    else:
        is_one = len(functions) + len(targets) < 2
        wait = "is paused: its changes wait" if is_one else "are paused: their changes wait"
        options = "".join(f" --function {shlex.quote(each)}" for each in functions)
        options += "".join(f" --target {shlex.quote(each)}" for each in targets)
        output.line(f"{what} {wait} until `gearsync resume {name}{options}`.")
