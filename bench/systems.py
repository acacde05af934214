"""What the benchmarks run on: Redis with or without the module, databases, a deployed function."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gears.module
from tests.servers import MariaDBServer, PostgresServer, RedisServer, ServerError, run_sql

URL_VARIABLE = "GEARSYNC_BENCH_DB_URL"
COLUMNS = ("first", "last", "age")
_TABLE = (
    "CREATE TABLE persons (person_id VARCHAR(40) PRIMARY KEY, first VARCHAR(40), "
    "last VARCHAR(40), age INTEGER)"
)

_FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="bench", worker="WORKER", backlog={{"entries": 0, "bytes": 0}})
WriteBehind(
    keys="person:{{person_id}}",
    table="persons",
    columns=MAPPED,
    target=Target("env:{URL_VARIABLE}", name="bench"),
)
"""


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """A database with the table ``persons``; yields its SQLAlchemy URL. ServerError: no such server here."""
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
        run_sql(url, "DROP TABLE IF EXISTS persons")
        run_sql(url, _TABLE)
        yield url


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
    functions: str = _FUNCTIONS,
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Deploy the function for ``persons`` by the real command."""
    with tempfile.TemporaryDirectory(prefix="gearsync-bench-") as folder:
        source = Path(folder) / "functions.py"
        source.write_text(functions.replace("WORKER", worker).replace("MAPPED", repr(list(columns))))
        command = [sys.executable, "-m", "deploy", "deploy", str(source), "--redis", server.url]
        done = subprocess.run(
            command, env={**os.environ, URL_VARIABLE: url}, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise ServerError(f"the deploy failed: {done.stderr}")


@contextlib.contextmanager
def worker(server: RedisServer, url: str) -> Iterator[None]:
    """The real worker process, beside the server."""
    command = [sys.executable, "-m", "gears.worker", "--deployment", "bench", "--redis", server.url]
    process = subprocess.Popen(command, env={**os.environ, URL_VARIABLE: url}, stderr=subprocess.DEVNULL)
    try:
        yield
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


def fill(server: RedisServer, keys: int, offset: int = 0) -> None:
    """Write ``keys`` hashes by a plain client."""
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(keys):
            pipe.hset(f"person:{number}", mapping=image(number, offset))
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()


def image(number: int, offset: int = 0) -> dict[str, Any]:
    """The hash of one person."""
    return {"first": f"first{number}", "last": f"last{number * 7}", "age": (number + offset) % 90}


def wait_empty(server: RedisServer, timeout: float = 600) -> None:
    """Wait until everything is in SQL."""
    with server.client(socket_timeout=timeout + 5) as client:
        client.execute_command("GEARSYNC.WAIT", int(timeout * 1000))


def wait_below(server: RedisServer, entries: int) -> None:
    """Wait until the worker has begun: fewer than ``entries`` changes wait."""
    deadline = time.monotonic() + 60
    while backlog(server) >= entries:
        if time.monotonic() > deadline:
            raise ServerError("the worker did not begin within 60 s")
        time.sleep(0.005)
