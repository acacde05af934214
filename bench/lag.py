"""How long after HSET was acknowledged its row is committed, at shares of the rate that it can drain."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe
from typing import Any

import sqlalchemy as sa
from redis import Connection

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
LOOK_SECONDS = 0.001
"""Between two looks into SQL, which would take a core otherwise."""
REPLY_BYTES = 4
"""Of an HSET: a digit, as Redis writes numbers."""


def _ticks(rate: float, seconds: float) -> list[tuple[int, bytes]]:
    """Return for each tick the number of its last hash, and its commands as they go to Redis."""
    ticks: list[tuple[int, bytes]] = []
    number = 0
    for tick in range(1, int(seconds / TICK_SECONDS) + 1):
        first, end = number, round(tick * TICK_SECONDS * rate)
        commands: list[tuple[object, ...]] = []
        for each in range(first, end):
            words = [word for pair in systems.image(each).items() for word in pair]
            commands.append(("HSET", f"person:{each}", *words))
        if commands:
            number = end
            ticks.append((end - 1, b"".join(Connection().pack_commands(commands))))
    return ticks


def _write(port: int, rate: float, seconds: float, told: Pipe) -> None:
    """Write ``rate`` hashes a second in ticks; tell the last number of each, and when it was acknowledged; at
    the end how many there were, and how long that took, as a negative number.

    A process of its own, so that who looks is not held up by who writes; and one that costs little, because
    it has its commands ready, and takes no core from those that are measured. A tick that is late does not
    become a larger one.
    """
    ticks = _ticks(rate, seconds)
    written = -1
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begin = time.perf_counter()
        for at, (last, commands) in enumerate(ticks):
            time.sleep(max(0.0, begin + at * TICK_SECONDS - time.perf_counter()))
            connection.sendall(commands)
            left = (last - written) * REPLY_BYTES
            while left > 0:
                left -= len(connection.recv(left))
            written = last
            told.send((last, time.perf_counter()))
        told.send((written + 1, begin - time.perf_counter()))


def _lags(server: RedisServer, url: str, rate: float, seconds: float) -> tuple[list[float], float]:
    """Return the lags in ms of each tick's last hash, as a polling reader sees them, and the true rate."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    arguments = (server.port, rate, seconds, theirs)
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=arguments)
    lags: list[float] = []
    waiting: deque[tuple[int, float]] = deque()
    true_rate = -1.0
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        writer.start()
        # So that its end is seen, however it ends.
        theirs.close()
        while true_rate < 0 or waiting:
            while true_rate < 0 and ours.poll(0):
                number, at = ours.recv()
                if at < 0:
                    true_rate = number / -at
                else:
                    waiting.append((number, at))
            lags += _seen(connection, waiting)
            time.sleep(LOOK_SECONDS)
    writer.join()
    engine.dispose()
    return lags, true_rate


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
                if kind == "postgres":
                    # It makes log files for the first time else, which takes longer than a batch.
                    run_sql(url, "CHECKPOINT")
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
