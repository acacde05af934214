"""Write-through beside a client that writes to SQL and then to Redis itself, and beside plain upserts in C.

The clients are Python processes of one connection each, the same for both. redis-benchmark shows what the
server takes when its clients cost little; pgbench is PostgreSQL's own.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from bench import systems
from bench.results import Row, main, quantile
from tests.servers import RedisServer, ServerError

TITLE = "Write-through: a write is in SQL and in Redis before its reply"
CLIENTS = (1, 16, 64)
KEYS = 100_000
_FUNCTIONS = f"""
from connectors import Target
from gears import WriteThrough, deployment_settings

deployment_settings(name="bench", worker="WORKER")
WriteThrough(
    keys="person:{{person_id}}",
    table="persons",
    columns={list(systems.COLUMNS)},
    target=Target("env:{systems.URL_VARIABLE}", name="bench"),
)
"""
IMAGE: dict[Any, Any] = {"first": "firstname", "last": "lastname", "age": 42}
_UPSERT = "INSERT INTO persons (person_id, first, last, age) VALUES (%s, 'firstname', 'lastname', 42) "
_CONFLICT = {
    "postgresql": "ON CONFLICT (person_id) DO UPDATE SET "
    "first = EXCLUDED.first, last = EXCLUDED.last, age = EXCLUDED.age",
    "mysql": "ON DUPLICATE KEY UPDATE first = VALUES(first), last = VALUES(last), age = VALUES(age)",
}
_PGBENCH = (
    "\\set id random(1, 100000)\n" + _UPSERT.replace("%s", "'pg' || :id") + _CONFLICT["postgresql"] + ";\n"
)

Write = Callable[[int], object]
Latencies = list[float]


def _through(port: int, url: str) -> Write:
    client = redis.Redis(port=port)
    return lambda number: client.hset(f"person:{number}", mapping=IMAGE)


def _dual(port: int, url: str) -> Write:
    """SQL first, committed; then Redis."""
    client = redis.Redis(port=port)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    cursor = engine.raw_connection().cursor()
    statement = _UPSERT + _CONFLICT[engine.dialect.name.replace("mariadb", "mysql")]

    def write(number: int) -> None:
        cursor.execute(statement, (f"dual{number}",))
        client.hset(f"dual:{number}", mapping=IMAGE)

    return write


def _client(
    make: Callable[[int, str], Write], port: int, url: str, end: float, found: Queue[Latencies]
) -> None:
    write, latencies = make(port, url), []
    while time.time() < end:
        begin = time.perf_counter()
        write(random.randrange(KEYS))
        latencies.append(time.perf_counter() - begin)
    found.put(latencies)


def _measure(
    make: Callable[[int, str], Write], port: int, url: str, clients: int, seconds: float
) -> tuple[float, Latencies]:
    """Return operations a second and each latency in seconds."""
    context = multiprocessing.get_context("fork")
    found: Queue[Latencies] = context.Queue()
    end = time.time() + seconds
    arguments = (make, port, url, end, found)
    processes = [context.Process(target=_client, args=arguments) for _ in range(clients)]
    for process in processes:
        process.start()
    latencies = [each for _ in processes for each in found.get()]
    for process in processes:
        process.join()
    return len(latencies) / seconds, latencies


def _row(database: str, clients: int, system: str, rate: float, latencies: Latencies, peer: float) -> Row:
    shown = [f"{quantile(latencies, share) * 1000:.2f}" if latencies else "" for share in (0.5, 0.99)]
    ratio = f"{rate / peer:.2f}" if peer else ""
    return {
        "database": database,
        "clients": clients,
        "writer": system,
        "ops/s": int(rate),
        "p50 ms": shown[0],
        "p99 ms": shown[1],
        "of the dual write": ratio,
    }


def _redis_benchmark(server: RedisServer, clients: int, requests: int) -> float:
    words = ["HSET", "person:__rand_int__", *(str(word) for pair in IMAGE.items() for word in pair)]
    options = ["-p", str(server.port), "-c", str(clients), "-n", str(requests), "-r", str(KEYS)]
    done = subprocess.run(["redis-benchmark", *options, *words], capture_output=True, text=True, check=True)
    found = re.search(r"throughput summary: ([\d.]+)", done.stdout)
    if found is None:
        raise ServerError(f"redis-benchmark said no rate: {done.stdout[-300:]}")
    return float(found.group(1))


def _pgbench(url: str, clients: int, seconds: float) -> float:
    parts = make_url(url)
    with tempfile.TemporaryDirectory(prefix="gearsync-bench-") as folder:
        script = Path(folder) / "upsert.sql"
        script.write_text(_PGBENCH)
        place = ["-h", str(parts.host), "-p", str(parts.port), "-U", str(parts.username)]
        load = ["-n", "-c", str(clients), "-j", "2", "-T", str(int(seconds)), "-f", str(script)]
        command = ["pgbench", *place, *load, str(parts.database)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if found is None:
        raise ServerError(f"pgbench said no rate: {done.stdout[-300:]}")
    return float(found.group(1))


def _one(kind: str, seconds: float) -> list[Row]:
    rows: list[Row] = []
    with systems.database(kind) as url, systems.redis("--appendonly", "yes", "--save", "") as server:
        systems.deploy(server, url, functions=_FUNCTIONS)
        with systems.worker(server, url):
            _measure(_through, server.port, url, 1, 2)
            for clients in CLIENTS:
                dual, dual_latencies = _measure(_dual, server.port, url, clients, seconds)
                ours, latencies = _measure(_through, server.port, url, clients, seconds)
                rows.append(_row(kind, clients, "dual write", dual, dual_latencies, 0))
                rows.append(_row(kind, clients, "gearsync", ours, latencies, dual))
            if shutil.which("redis-benchmark"):
                rate = _redis_benchmark(server, clients, int(ours * seconds))
                rows.append(_row(kind, clients, "gearsync, redis-benchmark", rate, [], dual))
            if kind == "postgres" and shutil.which("pgbench"):
                rate = _pgbench(url, clients, seconds)
                rows.append(_row(kind, clients, "upserts alone, pgbench", rate, [], dual))
    return rows


def run(quick: bool) -> list[Row]:
    """Measure each database that is here."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb"):
        try:
            rows += _one(kind, 2 if quick else 10)
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("through", TITLE, run)
