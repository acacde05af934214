"""A whole gearsync for tests of the worker: Redis with the module and its worker, functions, databases."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from tests import hosts
from tests.integration.deploying import ROOT, eventually, gearsync, gearsync_json, write


class System:
    """Redis with a supervised worker, and one deployment.

    ``variables`` name the databases for it; ``away``: one of them can't be reached yet; ``options`` are those
    of the server, ``host`` is what it runs the functions on.
    """

    def __init__(
        self,
        folder: Path,
        functions: str,
        variables: dict[str, str],
        away: bool = False,
        options: Sequence[str] = ("--appendonly", "yes"),
        host: str = "module",
    ) -> None:
        self.away = away
        self.host = host
        self.functions = write(folder, functions)
        self.variables = {"PYTHONPATH": str(ROOT), **variables}
        self.server = hosts.server_of(host, *options)

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Have the databases' variables in this process, from which servers inherit them."""
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def __enter__(self) -> redis.Redis:
        """Start and deploy; return a client."""
        with self.environment():
            self.server.start()
            self.deploy()
        # RedisGears answers in the forms of RESP2 alone where it holds a command.
        protocol = {} if self.host == "module" else {"protocol": 2}
        self.client = self.server.client(socket_timeout=60, **protocol)
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()

    def deploy(self) -> None:
        """Deploy the functions; ``away``: without looking at databases, and without waiting for them long."""
        options = ["--offline", "--timeout", "1"] if self.away else []
        done = gearsync("deploy", self.functions, "--redis", self.server.url, *options)
        assert done.returncode == (1 if self.away else 0), done.stdout + done.stderr + self.server.log_text()

    def wait(self, seconds: int = 30) -> None:
        """Wait until all that was written is in SQL or a dead letter."""
        assert hosts.wait(self.server, seconds), f"{self.status()}\n{self.server.log_text()[-3000:]}"

    def status(self) -> dict[str, Any]:
        """Return the one deployment's part of the status."""
        found: dict[str, Any] = hosts.status(self.server)["deployments"][0]
        return found

    def target(self, name: str) -> dict[str, Any]:
        """Return what the worker reports of a target; empty before its first report."""
        report = self.status()["worker"]["report"] or {}
        found: dict[str, Any] = report.get("targets", {}).get(name, {})
        return found

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters, by key."""
        found: list[dict[str, Any]] = gearsync_json("deadletters", "list", "--redis", self.server.url)
        return sorted(found, key=lambda letter: str(letter["key"]))

    def until_waiting(self, name: str, text: str) -> None:
        """Wait until the worker says that it waits for a target, and why."""
        eventually(lambda: text in self.target(name).get("last_error", ""))
        assert self.target(name)["state"] == "waiting"
