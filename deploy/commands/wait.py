"""gearsync wait."""

from __future__ import annotations

import time

import click

from deploy import barrier, options, output, status
from deploy.reaching import shards


@click.command(name="wait")
@options.redis_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait at most.",
)
@click.option("--key", help="Wait for this key's changes only.")
@click.option("--deployment", metavar="NAME", help="Wait for this deployment's changes only.")
def command(url: str, timeout: float, key: str | None, deployment: str | None) -> None:
    """Wait until all that was written before is in SQL.

    Writes that come later are not waited for. A change that the database refuses counts as done once it is a
    dead letter. Exit code 1: it was not done in time, and what still waits is printed.
    """
    began = time.monotonic()
    with shards.connect(url) as found:
        if barrier.wait(found, timeout, key, deployment):
            return
        with found.again() as now:
            left = barrier.leftovers(status.fetch(now), deployment)
    # What a pause holds back is told at once.
    is_late = time.monotonic() - began >= 0.9 * timeout
    after = f"after {timeout:g} s, " if is_late else ""
    lines = [f"{after}not all changes are in SQL.", *(f"  {each}" for each in left)]
    more = "give it more time (--timeout)" if is_late else "gearsync resume what is paused"
    raise output.CommandError("\n".join(lines), f"{more}, or see gearsync status.")
