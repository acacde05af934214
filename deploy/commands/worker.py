"""gearsync worker."""

from __future__ import annotations

import contextlib

import click

from deploy import options
from deploy.running import external
from gears.worker import logs


@click.command(name="worker")
@options.redis_option
@click.option("--deployment", metavar="NAME", help="Run the workers of this deployment only.")
@options.metrics_option
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    envvar=logs.VARIABLE,
    default="console",
    show_default=True,
    help="What is told on standard error: lines for people, or of JSON, one an event.",
)
def command(
    url: str, deployment: str | None, metrics_listen: tuple[str, int] | None, log_format: str
) -> None:
    """Run workers here, in the foreground, instead of beside Redis.

    For deployments with worker = "external", and for servers whose module has SUPERVISE no: one process for
    each deployment and shard, started again when it crashes. A second gearsync worker elsewhere is a standby.
    With --metrics-listen it serves the figures of all shards, as gearsync metrics does.
    SIGTERM or Ctrl-C ends them all, each with its batch in flight committed.
    """
    with contextlib.ExitStack() as stack:
        if metrics_listen is not None:
            from deploy.watching import metrics

            stack.enter_context(metrics.served(url, *metrics_listen))
        external.run(url, deployment, log_format)
