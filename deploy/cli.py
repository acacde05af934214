"""The command ``gearsync``: only which commands there are, and the version."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import io
import os
import sys
from typing import Any

import click

COMMANDS = (
    "demo",
    "server",
    "init",
    "migrate",
    "check",
    "doctor",
    "triggers",
    "deploy",
    "rollback",
    "undeploy",
    "pause",
    "resume",
    "status",
    "metrics",
    "wait",
    "backfill",
    "load",
    "verify",
    "deadletters",
    "requirements",
    "dashboard",
    "worker",
    "module",
    "completion",
)  # fmt: skip


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk or a file takes no more: mostly that to which standard output leads."""


class Commands(click.Group):
    """The commands in the order above, each imported when it is asked for, so that the others start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in their order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; None: there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"deploy.commands.{cmd_name}").command
        return command


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from gears import module

    click.echo(f"gearsync {importlib.metadata.version('gearsync')}")
    try:
        click.echo(f"module {module.version()}, {module.path()}")
    except FileNotFoundError:
        click.echo("module not built: run make install, or pip install gearsync")
    ctx.exit()


@click.command(
    cls=Commands,
    name="gearsync",
    context_settings={
        "auto_envvar_prefix": "GEARSYNC",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 80,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version, and where the module is.",
)
def group() -> None:
    """Write to Redis. Query in SQL.

    Exit codes: 0 done, 1 the check or the work failed, 2 wrong usage. Results go to standard output, progress
    and errors to standard error.
    """


def main(*arguments: Any) -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of the output lacks is escaped, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        group(args=list(arguments) or None)
    except OSError as error:
        if error.errno not in FULL:
            raise
        from deploy.output import CommandError

        CommandError(f"what is to be written can't be: {error.strerror}.").show()
        # What is still to be written would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None
