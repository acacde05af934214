"""``gearsync status --watch``: look again and again, and show it until somebody has seen enough."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

import click
from rich.console import Console
from rich.live import Live

from deploy import status
from deploy.status import Limits
from deploy.watching import keys, live
from deploy.watching.figures import Sampler, ShardFigures
from deploy.watching.look import Watch


def run(url: str, interval: float, as_json: bool, limits: Limits) -> None:
    """Watch until q, Ctrl-C or SIGTERM. Raises ShardError when the shards can't be found at the start."""
    console = Console(highlight=False)
    if not as_json and not console.is_terminal:
        raise click.UsageError("--watch needs a terminal; for programs, add --json.")
    with Watch(url) as watched, contextlib.suppress(KeyboardInterrupt), _termination():
        if as_json:
            _print_lines(watched, interval, limits)
        else:
            _show(watched, interval, console)


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Have SIGTERM end as Ctrl-C does, so that the terminal is left as it was."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(watched: Watch, interval: float, console: Console) -> None:
    sampler = Sampler()
    found: tuple[ShardFigures, ...] = ()
    with keys.single_keys() as has_keys, Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            at = time.time()
            found = sampler.feed(watched.look(), at)
            screen.update(live.view(found, at, interval, console.width), refresh=True)
            if keys.wait_for("q", interval, has_keys):
                return


def _print_lines(watched: Watch, interval: float, limits: Limits) -> None:
    sampler = Sampler()
    while True:
        at = time.time()
        documents = watched.look()
        found = sampler.feed(documents, at)
        line = {
            "at": round(at, 3),
            "shards": [each.to_document() for each in found],
            "attention": status.attention(documents, limits),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        time.sleep(interval)
