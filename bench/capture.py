"""HSET with and without the function, in turn: rate and p99, without a worker and while one drains.

``python -m bench.capture [--quick] [--json FILE]``; ``GEARSYNC_BENCH_DRAIN`` names the database of the worker
(``postgres`` unless given, ``mariadb``, ``sqlite``).
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from bench import systems
from bench.results import Row, main, median
from tests.servers import RedisServer, ServerError, run_sql

TITLE = "Capture: HSET with the function, beside the bare server"
KEYS = 100_000
FIRST, OTHERS = 0, 1
"""Halves of the cores."""
DATABASE = os.environ.get("GEARSYNC_BENCH_DRAIN", "postgres")


class Case(NamedTuple):
    """One row of the table. ``aof``: the setting appendfsync, or "no"."""

    fields: int
    pipeline: int
    aof: str
    drains: bool = False


class Figures(NamedTuple):
    """What redis-benchmark says: requests a second, and latencies in ms."""

    rate: float
    p50: float
    p99: float


CASES = [
    *(Case(fields, pipeline, "no") for fields in (3, 20) for pipeline in (1, 16)),
    *(Case(fields, pipeline, "everysec") for fields in (3, 20) for pipeline in (1, 16)),
    *(Case(fields, pipeline, "no", drains=True) for fields in (3, 20) for pipeline in (1, 16)),
]


def measure(server: RedisServer, pairs: list[str], pipeline: int, requests: int) -> Figures:
    """Measure HSET by redis-benchmark with 50 clients; ``pairs``: the hash."""
    program = shutil.which("redis-benchmark")
    if program is None:
        raise ServerError("no redis-benchmark: apt-get install redis-tools")
    command = [program, "-p", str(server.port), "-c", "50", "-P", str(pipeline), "-n", str(requests)]
    command += ["-r", str(KEYS), "--csv", "HSET", "person:__rand_int__", *pairs]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    [row] = csv.DictReader(line for line in text.splitlines() if line.startswith('"'))
    return Figures(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


@contextlib.contextmanager
def _function(server: RedisServer, case: Case) -> Iterator[None]:
    """A function over the keys, and a worker that brings what it captures to SQL, if the case has one."""
    if not case.drains:
        systems.capture_only(server, case.fields)
        yield
        return
    names = _names(case.fields)
    with contextlib.ExitStack() as stack:
        with systems.on_cores(OTHERS):
            url = stack.enter_context(systems.database(DATABASE))
        run_sql(url, "DROP TABLE persons")
        columns = ", ".join(f"{name} VARCHAR(40)" for name in names)
        run_sql(url, f"CREATE TABLE persons (person_id VARCHAR(40) PRIMARY KEY, {columns})")
        systems.deploy(server, url, columns=names)
        with systems.on_cores(OTHERS):
            stack.enter_context(systems.worker(server, url))
        measure(server, _pairs(case.fields), 16, 20_000)
        systems.wait_empty(server)
        yield


def _names(fields: int) -> list[str]:
    return [f"field{number}" for number in range(fields)]


def _pairs(fields: int) -> list[str]:
    return [text for number, name in enumerate(_names(fields)) for text in (name, f"value{number}")]


def _round(case: Case, module: bool, requests: int) -> Figures:
    options = (
        ["--appendonly", "no"] if case.aof == "no" else ["--appendonly", "yes", "--appendfsync", case.aof]
    )
    # Beside a worker that drains, Redis and its clients have one half of the cores: the bare server too.
    with systems.on_cores(FIRST) if case.drains else contextlib.nullcontext():
        with systems.redis(*options, module=module) as server:
            with _function(server, case) if module else contextlib.nullcontext():
                return measure(server, _pairs(case.fields), case.pipeline, requests)


def _case(case: Case, quick: bool) -> Row:
    requests = (100_000 if case.pipeline == 1 else 400_000) // (1 if case.fields < 10 else 3)
    requests //= 4 if quick else 1
    bare, ours = [], []
    for _ in range(2 if quick else 5):
        bare.append(_round(case, False, requests))
        ours.append(_round(case, True, requests))
    rates = [median([each.rate for each in figures]) for figures in (bare, ours)]
    p99s = [median([each.p99 for each in figures]) for figures in (bare, ours)]
    return {
        "fields": case.fields,
        "pipeline": case.pipeline,
        "AOF": case.aof,
        "worker": f"drains to {DATABASE}" if case.drains else "none",
        "bare/s": round(rates[0]),
        "function/s": round(rates[1]),
        "ratio": round(rates[1] / rates[0], 2),
        "bare p50 ms": median([each.p50 for each in bare]),
        "function p50 ms": median([each.p50 for each in ours]),
        "bare p99 ms": p99s[0],
        "function p99 ms": p99s[1],
        "p99 ratio": round(p99s[1] / p99s[0], 2),
    }


def run(quick: bool) -> list[Row]:
    """Measure each case."""
    return [_case(case, quick) for case in CASES]


if __name__ == "__main__":
    main("capture", TITLE, run)
