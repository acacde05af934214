"""The command line as a process, and the server it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import redis

from tests.servers import find_redis_server, free_port

GEARSYNC = [sys.executable, "-W", "error", "-m", "deploy"]
DEADLINE = 60.0


def environment(**variables: str) -> dict[str, str]:
    """Return our environment without gearsync's own variables, and with ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GEARSYNC_")}
    return {**kept, **variables}


def gearsync(
    *arguments: str, timeout: float = DEADLINE, cwd: Path | None = None, typed: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; exit code, standard output and standard error apart."""
    return subprocess.run(
        [*GEARSYNC, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        input=typed,
        env=environment(**variables),
        check=False,
    )


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until ``condition`` holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {condition}")
        time.sleep(0.02)


class Process:
    """A command in the background, with its output in a file."""

    def __init__(self, log: Path, *arguments: str, **variables: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*GEARSYNC, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(**variables),
            )

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


class Served:
    """``gearsync server`` on a free port."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        arguments = ["server", "--port", str(self.port), "--dir", str(folder / "data")]
        arguments += ["--redis-server", find_redis_server(), "--", *options]
        self.command = Process(folder / "server.log", *arguments, **variables)

    def __enter__(self) -> Served:
        with redis.Redis(port=self.port) as client:
            until(lambda: self._answers(client))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.command.end()

    def _answers(self, client: redis.Redis) -> bool:
        if self.command.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.command.text()}")
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False
