"""gearsync metrics."""

from __future__ import annotations

import signal
import threading

import click

from deploy import options
from deploy.watching import metrics
from deploy.watching.look import Watch


@click.command(name="metrics")
@options.redis_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=options.place,
    default="127.0.0.1:9464",
    show_default=True,
    help="Where Prometheus may ask; there is no login, so the default is this machine alone.",
)
@click.option("--once", is_flag=True, help="Print the metrics and end.")
def command(url: str, listen: tuple[str, int], once: bool) -> None:
    """Serve the figures of all shards to Prometheus, at /metrics, until SIGTERM or Ctrl-C.

    Each shard is asked when Prometheus asks; one that is away, also at the start, is gearsync_shard_up 0. The
    names are in docs/operations.md.
    """
    if once:
        with Watch(url) as watched:
            click.echo(metrics.text_of(watched), nl=False)
        return
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with metrics.served(url, *listen):
        over.wait()
