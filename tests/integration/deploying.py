"""What the tests of deploy share: a server whose worker finds this code, and the command line as a
process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import hosts
from tests.sanitizers import module_path
from tests.servers import RedisServer, run_sql

ROOT = Path(__file__).parents[2]

FUNCTIONS = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people")
reporting = Target("env:REPORTING_DB_URL", name="reporting")

WriteBehind(
    keys="person:{person_id}",
    table="persons",
    columns={"first_name": "first", "last_name": "last"},
    target=reporting,
)
"""

PERSONS = """CREATE TABLE persons (
    person_id VARCHAR(64) PRIMARY KEY, first VARCHAR(64), last VARCHAR(64), age INTEGER, city
    VARCHAR(64))"""


def redis_with_module(*options: str) -> RedisServer:
    """Return a server, not yet started, whose supervised worker is run by this Python."""
    return RedisServer(*options, module=module_path(), module_arguments=("PYTHON", sys.executable))


def worker_environment(url: str) -> dict[str, str]:
    """Return what a server's environment needs so that its worker finds this code and the database at
    ``url``.
    """
    return {"PYTHONPATH": str(ROOT), "REPORTING_DB_URL": url}


def gearsync(*arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def gearsync_json(*arguments: str, code: int = 0) -> Any:
    """Run a command with ``--json`` and return the document that it printed."""
    run = gearsync(*arguments, "--json")
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


def write(folder: Path, text: str, name: str = "functions.py") -> str:
    """Write a file of functions and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query as plain tuples."""
    return [tuple(row) for row in run_sql(url, statement)]


def deployments(server: RedisServer) -> dict[str, tuple[int, str]]:
    """Return version and state of each deployment on a server, by name."""
    host = hosts.asked(server)
    with host.client:
        return {name: (each.version, each.state) for name, each in host.deployments().items()}
