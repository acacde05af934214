"""Write-through beside a client that writes to SQL and then to Redis itself, and beside plain upserts in C.

The clients are Python processes of one connection each, the same for both. redis-benchmark shows what the
server takes when its clients cost little; pgbench is PostgreSQL's own. The CPU time is that of Redis, the
worker and the database for one write, without that of the clients.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import redis
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from bench import cpu, systems
from bench.results import Row, main, quantile
from tests.servers import RedisServer, ServerError

TITLE = "Write-through: a write is in SQL and in Redis before its reply"
CLIENTS = (1, 16, 64)
MANY = 256
"""As many again, in a long run."""
FEWEST_IN_C = 64
"""Clients that cost little stand beside so many."""
ROUNDS = 2
KEYS = 100_000
PATIENCE_SECONDS = 120.0
"""How long all clients may take to connect."""
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
Make = Callable[[int, str], Write]
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


class Measured(NamedTuple):
    """What some clients did: operations a second, seconds of each, and the servers' CPU seconds for one."""

    rate: float
    latencies: Latencies
    cpu: float


def _client(
    make: Make, port: int, url: str, seconds: float, together: Barrier, found: Queue[Latencies]
) -> None:
    """Connect, wait for the others, write, and stay until the servers' CPU time was read."""
    write, latencies = make(port, url), []
    write(0)
    together.wait()
    together.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        write(random.randrange(KEYS))
        latencies.append(time.perf_counter() - begin)
    together.wait()
    together.wait()
    found.put(latencies)


def _measure(
    make: Make, place: tuple[int, str], servers: Sequence[psutil.Process], clients: int, seconds: float
) -> Measured:
    context = multiprocessing.get_context("fork")
    found: Queue[Latencies] = context.Queue()
    together = context.Barrier(clients + 1, timeout=seconds + PATIENCE_SECONDS)
    arguments = (make, *place, seconds, together, found)
    processes = [context.Process(target=_client, args=arguments, daemon=True) for _ in range(clients)]
    for process in processes:
        process.start()
    together.wait()
    before, begin = cpu.seconds(servers), time.monotonic()
    together.wait()
    together.wait()
    spent, lasted = cpu.seconds(servers) - before, time.monotonic() - begin
    together.wait()
    latencies = [each for _ in processes for each in found.get()]
    for process in processes:
        process.join()
    return Measured(len(latencies) / lasted, latencies, spent / max(1, len(latencies)))


def _merged(rounds: Sequence[Measured]) -> Measured:
    latencies = [each for one in rounds for each in one.latencies]
    return Measured(
        statistics.mean(one.rate for one in rounds), latencies, statistics.mean(one.cpu for one in rounds)
    )


def _row(database: str, clients: int, system: str, found: Measured, peer: float) -> Row:
    latencies = found.latencies
    shown = [f"{quantile(latencies, share) * 1000:.2f}" if latencies else "" for share in (0.5, 0.99)]
    return {
        "database": database,
        "clients": clients,
        "writer": system,
        "ops/s": int(found.rate),
        "p50 ms": shown[0],
        "p99 ms": shown[1],
        "of the dual write": f"{found.rate / peer:.2f}" if peer else "",
        "CPU µs": round(found.cpu * 1e6),
    }


def _counted(command: Sequence[str], rate: str, count: str, servers: Sequence[psutil.Process]) -> Measured:
    """Run a benchmark in C, whose output says its rate, and how much it did."""
    before = cpu.seconds(servers)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = cpu.seconds(servers) - before
    rates, counts = re.search(rate, done.stdout), re.search(count, done.stdout)
    if rates is None or counts is None:
        raise ServerError(f"{command[0]} said no rate: {done.stdout[-300:]}")
    return Measured(float(rates.group(1)), [], spent / int(counts.group(1)))


def _redis_benchmark(
    server: RedisServer, clients: int, requests: int, servers: Sequence[psutil.Process]
) -> Measured:
    words = ["HSET", "person:__rand_int__", *(str(word) for pair in IMAGE.items() for word in pair)]
    options = ["-p", str(server.port), "-c", str(clients), "-n", str(requests), "-r", str(KEYS)]
    said = (r"throughput summary: ([\d.]+)", r"(\d+) requests completed")
    return _counted(["redis-benchmark", *options, *words], *said, servers)


def _pgbench(url: str, clients: int, seconds: float, database: Sequence[psutil.Process]) -> Measured:
    parts = make_url(url)
    with tempfile.TemporaryDirectory(prefix="gearsync-bench-") as folder:
        script = Path(folder) / "upsert.sql"
        script.write_text(_PGBENCH)
        place = ["-h", str(parts.host), "-p", str(parts.port), "-U", str(parts.username)]
        load = ["-n", "-c", str(clients), "-j", "2", "-T", str(int(seconds)), "-f", str(script)]
        said = (r"tps = ([\d.]+)", r"actually processed: (\d+)")
        return _counted(["pgbench", *place, *load, str(parts.database)], *said, database)


def _beside(
    kind: str, place: tuple[int, str], servers: Sequence[psutil.Process], clients: int, seconds: float
) -> list[Row]:
    """Rounds in turn, for the machine may be faster in one minute than in the next."""
    rounds: list[tuple[Measured, Measured]] = []
    for _ in range(ROUNDS):
        dual = _measure(_dual, place, servers, clients, seconds / ROUNDS)
        rounds.append((dual, _measure(_through, place, servers, clients, seconds / ROUNDS)))
    dual, ours = (_merged(each) for each in zip(*rounds))
    return [
        _row(kind, clients, "dual write", dual, 0),
        _row(kind, clients, "gearsync", ours, dual.rate),
    ]


def _one(kind: str, seconds: float, numbers: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    with systems.database(kind) as url, systems.redis("--appendonly", "yes", "--save", "") as server:
        systems.deploy(server, url, functions=_FUNCTIONS)
        with systems.worker(server, url) as worker:
            systems.wait_running(server, worker)
            place, servers = (server.port, url), cpu.servers(server, url, worker)
            for clients in numbers:
                rows += _beside(kind, place, servers, clients, seconds)
                if clients < FEWEST_IN_C:
                    continue
                dual, ours = (int(row["ops/s"]) for row in rows[-2:])
                if shutil.which("redis-benchmark"):
                    found = _redis_benchmark(server, clients, int(ours * seconds), servers)
                    rows.append(_row(kind, clients, "gearsync, redis-benchmark", found, dual))
                if kind == "postgres" and shutil.which("pgbench"):
                    found = _pgbench(url, clients, seconds, cpu.listening(make_url(url).port))
                    rows.append(_row(kind, clients, "upserts alone, pgbench", found, dual))
    return rows


def run(quick: bool) -> list[Row]:
    """Measure each database that is here."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb"):
        try:
            rows += _one(kind, 2 if quick else 10, CLIENTS if quick else (*CLIENTS, MANY))
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("through", TITLE, run)
