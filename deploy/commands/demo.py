"""gearsync demo."""

from __future__ import annotations

import os

import click

from deploy.demo import run
from deploy.demo.database import TARGETS, VARIABLE


@click.command(name="demo")
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="sqlite",
    show_default=True,
    help=f"The database. A postgres or mysql server is started for it, unless {VARIABLE} is set.",
)
@click.option(
    "--keys",
    type=click.IntRange(1, 10_000_000),
    default=20_000,
    show_default=True,
    help="How many hashes to write.",
)
@click.option(
    "--dir",
    "folder",
    envvar="GEARSYNC_DEMO_DIR",
    type=click.Path(file_okay=False),
    default=".demo",
    show_default=True,
    help="The folder for all that the demo makes; an earlier demo's is made anew.",
)
def command(target: str, keys: int, folder: str) -> None:
    """Show the whole way from HSET to SQL, on this machine.

    Starts a Redis with the module, deploys functions, writes hashes with a plain client, runs a report in
    SQL, and compares every hash with its row. All servers that it starts are ended. Exit code 1: something
    failed or differs.
    """
    run.run(target, keys, os.path.abspath(folder))
