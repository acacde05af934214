"""A server of the module that starts no worker, and workers in this process, which failpoints can stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import redis

from gears.worker.worker import Worker
from tests.sanitizers import module_path
from tests.servers import RedisServer


@contextlib.contextmanager
def unsupervised_server() -> Iterator[tuple[RedisServer, redis.Redis]]:
    """Start a server that starts no worker."""
    server = RedisServer(module=module_path(), module_arguments=("SUPERVISE", "no"))
    server.start()
    try:
        with server.client() as client:
            yield server, client
    finally:
        server.stop()


@contextlib.contextmanager
def worker_of(server: RedisServer, deployment: str, folder: Path) -> Iterator[Worker]:
    """Run a worker."""
    worker = Worker(server.url, deployment, folder)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop("the test is over")
        thread.join(20)
