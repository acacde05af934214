"""gearsync worker."""

from __future__ import annotations

import click

from deploy import external, options


@click.command(name="worker")
@options.redis_option
@click.option("--deployment", metavar="NAME", help="Run the workers of this deployment only.")
def command(url: str, deployment: str | None) -> None:
    """Run workers here, in the foreground, instead of beside Redis.

    For deployments with worker = "external", and for servers whose module has SUPERVISE no: one process for
    each deployment and shard, started again when it crashes. A second gearsync worker elsewhere is a standby.
    SIGTERM or Ctrl-C ends them all, each with its batch in flight committed.
    """
    external.run(url, deployment)
