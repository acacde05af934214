"""What the benchmarks run on: Redis with or without the module, databases, a deployed function."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import gears.module
from bench.schemas import PERSON, Schema
from tests.servers import MariaDBServer, PostgresServer, RedisServer, ServerError, run_sql

URL_VARIABLE = "GEARSYNC_BENCH_DB_URL"
COLUMNS = PERSON.columns


def functions_of(schema: Schema = PERSON, mappings: int = 1, lanes: int = 1) -> str:
    """Return the functions of a deployment, one a table; WORKER stands for who starts the worker."""
    declared = [
        f"""WriteBehind(
    keys={schema.key("{person_id}", number)!r},
    table={schema.table(number)!r},
    columns={list(schema.columns)},
    target=target,
)
"""
        for number in range(mappings)
    ]
    head = f"""
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="bench", worker="WORKER", lanes={lanes}, backlog={{"entries": 0, "bytes": 0}})
target = Target("env:{URL_VARIABLE}", name="bench")
"""
    return head + "".join(declared)


@contextlib.contextmanager
def database(kind: str, schema: Schema = PERSON, mappings: int = 1) -> Iterator[str]:
    """A database with the tables of a schema; yields its SQLAlchemy URL. ServerError: no such server here."""
    given = os.environ.get(f"GEARSYNC_BENCH_{kind.upper()}_URL")
    with contextlib.ExitStack() as stack:
        if given:
            url = given
        elif kind == "sqlite":
            folder = tempfile.mkdtemp(prefix="gearsync-bench-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            url = f"sqlite:///{folder}/bench.sqlite"
        else:
            server = PostgresServer() if kind == "postgres" else MariaDBServer()
            stack.callback(server.stop)
            url = server.start().create_database()
        for number in range(mappings):
            run_sql(url, f"DROP TABLE IF EXISTS {schema.table(number)}")
            run_sql(url, schema.ddl(number))
        yield url


@contextlib.contextmanager
def on_cores(half: int) -> Iterator[None]:
    """What is started meanwhile gets the first half of the machine's cores (0), or the second (1)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    cores = list(range(os.cpu_count() or 1))
    middle = len(cores) // 2
    os.sched_setaffinity(0, (cores[:middle], cores[middle:])[half] or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def redis(*options: str, module: bool = True) -> Iterator[RedisServer]:
    """A redis-server, with the module unless told otherwise; no worker is started."""
    path = gears.module.path() if module else None
    arguments = ("PYTHON", sys.executable, "SUPERVISE", "no") if module else ()
    with RedisServer(*options, module=path, module_arguments=arguments) as server:
        yield server


def capture_only(server: RedisServer, fields: int) -> None:
    """Deploy a function over ``person:{id}`` that nobody drains."""
    names = [f"field{number}" for number in range(fields)]
    functions = ["t", 0, "person:{id}", "KEEP", fields, *names]
    settings = ["LANES", 1, "BACKLOG", 0, 0, "GROW", "WORKER", "EXTERNAL", "PAYLOAD", "{}"]
    with server.client() as client:
        client.execute_command(
            *("GEARSYNC.DEPLOY", "bench", 1), *settings, *("TARGETS", 1, "t", "FUNCTIONS", 1), *functions
        )


def deploy(
    server: RedisServer,
    url: str,
    worker: str = "external",
    functions: str = "",
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Deploy functions, those for ``persons`` unless others are given, by the real command."""
    with tempfile.TemporaryDirectory(prefix="gearsync-bench-") as folder:
        source = Path(folder) / "functions.py"
        text = functions or functions_of(PERSON._replace(columns=tuple(columns)))
        source.write_text(text.replace("WORKER", worker))
        command = [sys.executable, "-m", "deploy", "deploy", str(source), "--redis", server.url]
        done = subprocess.run(
            command, env={**os.environ, URL_VARIABLE: url}, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise ServerError(f"the deploy failed: {done.stderr}")


@contextlib.contextmanager
def worker(server: RedisServer, url: str) -> Iterator[psutil.Process]:
    """The real worker process, beside the server."""
    command = [sys.executable, "-m", "gears.worker", "--deployment", "bench", "--redis", server.url]
    process = subprocess.Popen(command, env={**os.environ, URL_VARIABLE: url}, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def status(server: RedisServer) -> dict[str, Any]:
    """The deployment's part of GEARSYNC.STATUS."""
    with server.client() as client:
        document: dict[str, Any] = json.loads(client.execute_command("GEARSYNC.STATUS"))
    deployment: dict[str, Any] = document["deployments"][0]
    return deployment


def backlog(server: RedisServer) -> int:
    """How many changes wait."""
    return int(status(server)["backlog"]["entries"])


def fill(server: RedisServer, keys: int, offset: int = 0, schema: Schema = PERSON, mappings: int = 1) -> None:
    """Write ``keys`` hashes by a plain client, of each mapping in turn."""
    sets = (
        ("HSET", schema.key(number, number % mappings), *_flat(schema.image(number, offset)))
        for number in range(keys)
    )
    send(server, sets)


def send(server: RedisServer, commands: Iterable[Sequence[Any]]) -> None:
    """Send many commands by a plain client."""
    waiting = iter(commands)
    with server.client() as client:
        while some := list(itertools.islice(waiting, 1000)):
            pipe = client.pipeline(transaction=False)
            for words in some:
                pipe.execute_command(*words)
            pipe.execute()


def _flat(image: dict[str, Any]) -> list[Any]:
    return [word for pair in image.items() for word in pair]


def image(number: int, offset: int = 0) -> dict[str, Any]:
    """The hash of one person."""
    return PERSON.image(number, offset)


class Spent(NamedTuple):
    """What the draining of a lane took: changes, seconds of the clock and of the worker's CPU, and its memory
    at the end, in bytes.
    """

    changes: int
    seconds: float
    cpu_seconds: float
    rss: int

    @property
    def rate(self) -> float:
        """Changes a second."""
        return self.changes / self.seconds

    @property
    def cpu(self) -> float:
        """Seconds of CPU for a million changes, which is µs for each."""
        return self.cpu_seconds / self.changes * 1e6

    @property
    def megabytes(self) -> float:
        """The worker's memory in MB."""
        return self.rss / 1e6


def drain(server: RedisServer, url: str, fill: Callable[[], object]) -> Spent:
    """Start a worker, hold it while ``fill`` fills the lane, and measure it from then to its last commit."""
    with worker(server, url) as process:
        wait_running(server, process)
        process.suspend()
        try:
            fill()
            waiting, before = backlog(server), process.cpu_times()
        finally:
            process.resume()
        begin = time.perf_counter()
        wait_empty(server)
        seconds, after = time.perf_counter() - begin, process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        return Spent(waiting, seconds, cpu, int(process.memory_info().rss))


def wait_running(server: RedisServer, process: psutil.Process) -> None:
    """Wait until a worker has told that it works."""
    _wait_until(lambda: _runs(server, process.pid), "the worker does not run")


def _runs(server: RedisServer, pid: int) -> bool:
    """Whether this worker, not the one before it, has told that it works."""
    report = status(server)["worker"]["report"] or {}
    state = report.get("targets", {}).get("bench", {}).get("state", "")
    return report.get("pid") == pid and state == "running"


def wait_empty(server: RedisServer, timeout: float = 600) -> None:
    """Wait until everything is in SQL."""
    with server.client(socket_timeout=timeout + 5) as client:
        client.execute_command("GEARSYNC.WAIT", int(timeout * 1000))


def _wait_until(holds: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise ServerError(f"{problem} after 60 s")
        time.sleep(0.02)
