"""gearsync wait."""

from __future__ import annotations

import time

import click

from deploy import barrier, options
from deploy.reaching import shards


@click.command(name="wait")
@options.redis_option
@click.option(
    "--timeout",
    type=options.Number(min=0, min_open=True),
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
        if not barrier.wait(found, timeout, key, deployment):
            passed = time.monotonic() - began
            raise barrier.in_vain(found, deployment, timeout, passed, "give it more time (--timeout)")
