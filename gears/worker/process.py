"""The worker: takes the changes of one deployment on one shard to SQL (docs/design.md, "The worker").

``python -m gears.worker --deployment NAME --supervised`` is how the module starts it: the first line on
standard input says how to reach Redis, and the end of standard input that Redis is gone. ``--redis URL`` runs
it anywhere.

Exit codes: 0 stopped, 1 failed, 3 fenced by another worker.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gears.worker import address, lanes, logs
from gears.worker.listening import host_and_port
from gears.worker.logs import event
from gears.worker.worker import EXIT_FAILED, EXIT_STOPPED, Worker

log = logging.getLogger("gearsync.worker")


def _read_greeting() -> dict[str, Any]:
    """Read the module's first line and no byte more: the rest of the pipe is watched for its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("Error: the module's greeting did not come.")
        line += byte
    greeting: dict[str, Any] = json.loads(line)
    # The module writes each byte that is not ASCII as one character.
    greeting["work_dir"] = os.fsdecode(greeting["work_dir"].encode("latin-1"))
    return greeting


def _watch_input(worker: Worker) -> None:
    def watch() -> None:
        while os.read(0, 4096):
            continue
        worker.stop("Redis asks for it, or is gone")

    threading.Thread(target=watch, name="standard input", daemon=True).start()


def _handle_signals(worker: Worker) -> None:
    def on_signal(number: int, _frame: object) -> None:
        if worker.asked_to_stop:
            os._exit(EXIT_STOPPED)
        worker.asked_to_stop = True
        threading.Thread(target=worker.stop, args=(signal.Signals(number).name,), daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gears.worker", description=__doc__.split("\n")[0])
    parser.add_argument("--deployment", required=True, help="the deployment's name")
    parser.add_argument("--supervised", action="store_true", help="started by the module")
    parser.add_argument(
        "--redis", default=os.environ.get("GEARSYNC_REDIS_URL"), help="URL of the shard's primary"
    )
    parser.add_argument(
        "--metrics-listen",
        type=host_and_port,
        metavar="HOST:PORT",
        default=os.environ.get("GEARSYNC_WORKER_METRICS_LISTEN") or None,
        help="where Prometheus may ask this worker for its metrics",
    )
    parser.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default=os.environ.get(logs.VARIABLE) or "console",
        help="lines of the log for people, or of JSON",
    )
    options = parser.parse_args(arguments)
    if options.log_format not in logs.FORMATS:
        parser.error(f"{logs.VARIABLE} is {options.log_format!r}, which is neither console nor json")
    if not options.supervised and not options.redis:
        parser.error("give --redis URL, or set GEARSYNC_REDIS_URL")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one worker; returns its exit code."""
    options = _parse(arguments)
    logs.set_up(options.log_format, deployment=options.deployment, pid=os.getpid())
    url = options.redis
    work_dir = Path(tempfile.gettempdir()) / f"gearsync-{os.getuid()}"
    if options.supervised:
        os.closerange(3, 4096)
        greeting = _read_greeting()
        url = greeting["url"]
        work_dir = Path(greeting["work_dir"]) / "gearsync-requirements"
    try:
        url = address.resolve(url)
        lanes.connect(url).close()
    except address.AddressError as error:
        log.error("%s", error, extra=event("url_refused"))
        return EXIT_FAILED
    except ValueError:
        # Its message can hold a part of the URL, and so of a password.
        told = event("url_refused")
        log.error("the URL of Redis can't be read; it must be like redis://host:port", extra=told)
        return EXIT_FAILED
    # Batches make many short-lived tuples and no cycles: looking for cycles among them costs much time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    worker = Worker(url, options.deployment, work_dir, options.supervised)
    if options.metrics_listen:
        worker.serve_metrics(*options.metrics_listen)
    _handle_signals(worker)
    if options.supervised:
        _watch_input(worker)
    return worker.run()
