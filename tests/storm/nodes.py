"""Servers of a storm: on small disks, by a clock that steps, with workers that find the database."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.sanitizers import module_path
from tests.servers import RedisServer
from tests.storm.disk import Disk

_MEGABYTES = 200


class Node(RedisServer):
    """A server with the module. ``variables`` are in its environment, and so in its workers'.

    Its log stays in ``folder`` when all is over.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], *options: str) -> None:
        arguments = ("PYTHON", sys.executable)
        persistent = ("--appendonly", "yes")
        super().__init__(*persistent, *options, module=module_path(), module_arguments=arguments)
        self._folder = folder
        self._variables = variables
        self.disk = Disk(self.directory, _MEGABYTES)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **(super()._environment() or {}), **self._variables}

    def stop(self) -> None:
        """Stop it, and give its disk back."""
        self.thaw()
        self.terminate()
        log = self.log_text()
        (self._folder / f"{self.name}-{self.port}.log").write_text(log)
        self.disk.unmount()
        (self.directory / f"{self.name}.log").write_text(log)
        super().stop()

    def asking(self, **options: Any) -> redis.Redis:
        """Return a client that gives up soon, and never repeats anything."""
        settings = {"socket_timeout": 3, "retry": Retry(NoBackoff(), 0), **options}
        return self.client(**settings)

    def freeze(self) -> None:
        """SIGSTOP; its workers live on."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)

    def heal(self) -> None:
        """Have it run and answer."""
        self.thaw()
        if self.process is None or self.process.poll() is not None:
            self.restart()
        until_answers(self)


def until_answers(node: RedisServer, seconds: float = 60) -> None:
    """Wait until a server has loaded its data."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with node.client(socket_timeout=5) as client:
                client.ping()
            return
        except redis.RedisError as error:
            assert time.monotonic() < deadline, f"{node.url} does not answer: {error}"
            time.sleep(0.05)


def role(node: RedisServer) -> dict[str, Any]:
    """Return what a node says of its replication; empty: it does not answer."""
    with contextlib.suppress(redis.RedisError), node.client(socket_timeout=2) as client:
        found: dict[str, Any] = client.info("replication")
        return found
    return {}
