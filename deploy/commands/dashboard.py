"""gearsync dashboard."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deploy import options, output
from deploy.output import CommandError
from gears.worker.listening import host_and_port

TOKEN = "GEARSYNC_DASHBOARD_TOKEN"  # noqa: S105 (the name of a variable)
_TOKEN_HINT = f'export {TOKEN}="$(openssl rand -hex 16)", or --token-file PATH.'


@click.command(name="dashboard")
@options.redis_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8400",
    show_default=True,
    help="Where the page is served; port 0: one that is free.",
)
@click.option(
    "--host-name",
    "names",
    metavar="NAME",
    multiple=True,
    help="A name by which browsers may ask for the page, beside its address; may be repeated.",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=options.Number(0.2, 60),
    default=2.0,
    show_default=True,
    help="Between two looks at the shards.",
)
@click.option("--allow-changes", is_flag=True, help="Let the page retry and drop dead letters, by a token.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="PATH",
    help=f"The file that holds the token. Default: the variable {TOKEN}.",
)
def command(
    url: str,
    listen: str,
    names: tuple[str, ...],
    interval: float,
    allow_changes: bool,
    token_file: str | None,
) -> None:
    """Serve a web page: the figures of all shards, live, and the dead letters with their reasons.

    It needs gearsync[dashboard]. There is no login: whoever reaches the address reads keys and values, so it
    is this machine's alone unless --listen says otherwise. The page changes nothing, unless --allow-changes
    is given; then who retries or drops dead letters types the token.
    """
    try:
        from deploy.dashboard import app, guard, serving
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the page needs {error.name}, which is not installed.", "pip install 'gearsync[dashboard]'."
        ) from error
    try:
        host, port = host_and_port(listen)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from error
    changes = guard.Changes(_token(token_file, guard.MIN_TOKEN) if allow_changes else None)
    with serving.listen(host, port) as listening:
        if not guard.is_loopback(listening.getsockname()[0]):
            output.warning(
                "whoever reaches this address reads keys, values and reasons, unencrypted; best put a proxy "
                "with a login and TLS before it."
            )
        kind = "with changes by token" if allow_changes else "read-only"
        serving.serve(
            listening,
            lambda board: app.create(board, changes, guard.Hosts(names)),
            url,
            interval,
            lambda: output.status(f"Serving {serving.url_of(listening)} ({kind})"),
        )


def _token(path: str | None, shortest: int) -> str:
    """Return the token that changes need. Raises UsageError without saying what it is."""
    try:
        token = Path(path).read_text("ascii").strip() if path else os.environ.get(TOKEN, "")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise click.UsageError(f"The token can't be read from {path}: {reason}.") from error
    if not token:
        raise click.UsageError(f"--allow-changes needs a token: {_TOKEN_HINT}")
    if len(token) < shortest or not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError(f"The token must be {shortest} or more ASCII characters: {_TOKEN_HINT}")
    return token
