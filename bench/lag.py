"""How long after HSET was acknowledged its row is committed, at shares of the rate that it can drain."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

import sqlalchemy as sa

from bench import systems
from bench.plots import Plot
from bench.results import Row, main, quantile
from tests.servers import RedisServer, ServerError, run_sql

TITLE = "Lag: from the acknowledged HSET to the row that another session sees in SQL"
PLOT = Plot("lines", "HSET/s", "p99 ms", "database", "p99 of the lag, ms", "xy")
SHARES = (0.1, 0.5, 0.8)
"""Of the rate at which the worker drains the same rows, measured just before."""
TICK_SECONDS = 0.005
AT_ONCE = 20


def _write(port: int, rate: float, seconds: float, told: Connection) -> None:
    """Write ``rate`` hashes a second in ticks; tell the last number of each, and when it was acknowledged.

    A process of its own, so that who looks is not held up by who writes.
    """
    import redis

    client = redis.Redis(port=port)
    begin = time.perf_counter()
    number = 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        pipe = client.pipeline(transaction=False)
        first = number
        while number < elapsed * rate:
            words = [word for pair in systems.image(number).items() for word in pair]
            pipe.execute_command("HSET", f"person:{number}", *words)
            number += 1
        if number > first:
            pipe.execute()
            told.send((number - 1, time.perf_counter()))
        time.sleep(TICK_SECONDS)
    told.send((number, -1.0))


def _lags(server: RedisServer, url: str, rate: float, seconds: float) -> tuple[list[float], float]:
    """Return the lags in ms of each tick's last hash, as a polling reader sees them, and the true rate."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    arguments = (server.port, rate, seconds, theirs)
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=arguments)
    lags: list[float] = []
    waiting: deque[tuple[int, float]] = deque()
    written = -1
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        writer.start()
        # So that its end is seen, however it ends.
        theirs.close()
        while written < 0 or waiting:
            while written < 0 and ours.poll(0 if waiting else 0.001):
                number, at = ours.recv()
                if at < 0:
                    written = number
                else:
                    waiting.append((number, at))
            lags += _seen(connection, waiting)
    writer.join()
    engine.dispose()
    return lags, written / seconds


def _seen(connection: sa.Connection, waiting: deque[tuple[int, float]]) -> list[float]:
    """Take those out whose rows are there by now; one lane commits them in their order."""
    asked = [str(number) for number, _ in list(waiting)[:AT_ONCE]]
    if not asked:
        return []
    places = ", ".join(f"'{number}'" for number in asked)
    rows: Any = connection.exec_driver_sql(f"SELECT person_id FROM persons WHERE person_id IN ({places})")
    found = {str(row[0]) for row in rows}
    now = time.perf_counter()
    lags = []
    while waiting and str(waiting[0][0]) in found:
        lags.append((now - waiting.popleft()[1]) * 1000)
    return lags


def _measure(kind: str, quick: bool) -> list[Row]:
    rows: list[Row] = []
    with systems.database(kind) as url, systems.redis("--appendonly", "no") as server:
        systems.deploy(server, url)
        # Also so that the database has its log files, as one that has worked for a while.
        keys = 40_000 if quick else 200_000
        drained = systems.drain(server, url, lambda: systems.fill(server, keys)).rate
        with systems.worker(server, url):
            for share in SHARES:
                run_sql(url, "DELETE FROM persons")
                systems.fill(server, 100)
                systems.wait_empty(server)
                run_sql(url, "DELETE FROM persons")
                lags, rate = _lags(server, url, drained * share, 3 if quick else 15)
                rows.append(_row(kind, share, rate, lags))
    return rows


def _row(kind: str, share: float, rate: float, lags: list[float]) -> Row:
    figures = {f"p{100 * each:g} ms": round(quantile(lags, each), 1) for each in (0.5, 0.99, 0.999)}
    return {"database": kind, "of the drain": f"{share:.0%}", "HSET/s": round(rate), **figures}


def run(quick: bool) -> list[Row]:
    """Measure each database that is here, at each rate."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += _measure(kind, quick)
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("lag", TITLE, run, PLOT)
