"""gearsync module."""

from __future__ import annotations

import click

from deploy.output import line
from deploy.running import server


@click.group(name="module")
def command() -> None:
    """The native module that runs inside Redis."""


@command.command()
def path() -> None:
    """Print where the module is.

    Load it with redis-server --loadmodule "$(gearsync module path)" PYTHON "$(which python3)".
    """
    line(server.module_path())
