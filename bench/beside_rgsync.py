"""The functions on RedisGears 1.2, beside rgsync's recipe on the same server: HSET with all at work, drain.

It runs where GEARSYNC_TEST_REDISGEARS_HOME names a RedisGears (tests/redisgears.py) and GEARSYNC_BENCH_RGSYNC
a folder from which its Python imports rgsync.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import sqlalchemy
from sqlalchemy.engine import make_url

from bench import capture, systems
from bench.results import Row, main, median
from tests.redisgears import ABSENT, RedisGears, home
from tests.servers import run_sql

TITLE = "RedisGears 1.2: the functions beside rgsync's recipe, on the same server"
RGSYNC_VARIABLE = "GEARSYNC_BENCH_RGSYNC"
SYSTEMS = ("rgsync, batch 100", "rgsync, batch 1000", "gearsync")
LOCKS = {
    "postgresql": ("LOCK TABLE persons IN ACCESS EXCLUSIVE MODE", "COMMIT"),
    "mysql": ("LOCK TABLES persons WRITE", "UNLOCK TABLES"),
}
_RECIPE = """
from rgsync import RGWriteBehind
from rgsync.Connectors import {kind}Connection, {kind}Connector

connection = {kind}Connection({user!r}, {password!r}, {place!r})
RGWriteBehind(
    GB,
    keysPrefix="person",
    mappings={{"first": "first", "last": "last", "age": "age"}},
    connector={kind}Connector(connection, "persons", "person_id"),
    name="persons",
    version="1",
    batch={batch},
)
"""


def _recipe(url: str, batch: int) -> str:
    parts = make_url(url)
    kind = "Postgres" if parts.get_backend_name() == "postgresql" else "MySql"
    place = f"{parts.host}:{parts.port}/{parts.database}"
    return _RECIPE.format(
        kind=kind, user=parts.username, password=parts.password or "", place=place, batch=batch
    )


@contextlib.contextmanager
def _running(system: str, url: str) -> Iterator[RedisGears]:
    """RedisGears with one of the systems on it, and an empty table."""
    run_sql(url, "DROP TABLE IF EXISTS gearsync_checkpoint")
    run_sql(url, "DELETE FROM persons")
    paths = [os.environ[RGSYNC_VARIABLE]]
    with RedisGears(python_path=paths, environment={systems.URL_VARIABLE: url}) as server:
        if system == "gearsync":
            systems.deploy(server, url, worker="supervised")
        else:
            server.run(_recipe(url, int(system.rpartition(" ")[2])))
        yield server


def _drain_rate(server: RedisGears, url: str, keys: int) -> float:
    """Fill while the table is locked, and return the rows a second from its release on."""
    engine = sqlalchemy.create_engine(url)
    lock, unlock = LOCKS[engine.dialect.name]
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(lock)
            systems.fill(server, keys, 0)
            connection.exec_driver_sql(unlock)
            begin = time.perf_counter()
        # Both go in the order of the writes; counting all rows would take the database's time.
        while not run_sql(url, f"SELECT 1 FROM persons WHERE person_id = '{keys - 1}'"):
            time.sleep(0.01)
        return keys / (time.perf_counter() - begin)
    finally:
        engine.dispose()


def _case(what: str, database: str, rounds: int, measure: Callable[[str], float]) -> Row:
    rates: dict[str, list[float]] = {each: [] for each in SYSTEMS}
    for _ in range(rounds):
        for each in SYSTEMS:
            rates[each].append(measure(each))
    found = {each: median(rates[each]) for each in SYSTEMS}
    peer = max(found[each] for each in SYSTEMS[:2])
    row: Row = {"what": what, "database": database}
    row.update({f"{each}/s": round(rate) for each, rate in found.items()})
    return {**row, "ratio to the better": round(found["gearsync"] / peer, 2)}


def _of_database(kind: str, quick: bool) -> list[Row]:
    rounds, keys, requests = (1, 20_000, 20_000) if quick else (3, 100_000, 100_000)
    with systems.database(kind) as url:

        def drain(system: str) -> float:
            with _running(system, url) as server:
                return _drain_rate(server, url, keys)

        def hset(pipeline: int) -> Callable[[str], float]:
            def measure(system: str) -> float:
                with _running(system, url) as server:
                    pairs = ["first", "first1", "last", "last7", "age", "36"]
                    return capture.measure(server, pairs, pipeline, requests)[0]

            return measure

        return [
            _case("HSET", kind, rounds, hset(1)),
            _case("HSET, pipeline 16", kind, rounds, hset(16)),
            _case("drain", kind, rounds, drain),
        ]


def run(quick: bool) -> list[Row]:
    """Measure with PostgreSQL and MariaDB; nothing where there is no RedisGears or no rgsync."""
    if home() is None or RGSYNC_VARIABLE not in os.environ:
        print(f"left out: {ABSENT}; and set {RGSYNC_VARIABLE} to a folder that has rgsync")
        return []
    return [row for kind in ("postgres", "mariadb") for row in _of_database(kind, quick)]


if __name__ == "__main__":
    main("beside_rgsync", TITLE, run)
