"""How long after a COMMIT in SQL the hash of the row is gone from Redis, or made anew, at a steady rate."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from bench import systems
from bench.results import Row, main, quantile
from connectors import connect
from connectors.triggers import triggers_of
from tests.servers import RedisServer, ServerError

TITLE = "Staleness: from the COMMIT in SQL to the key that is invalidated or refreshed in Redis"
RATE = 200
"""Transactions a second, of one row each."""

_FUNCTIONS = f"""
from connectors import Target
from gears import WriteAround, deployment_settings

deployment_settings(name="bench", worker="WORKER")
WriteAround(
    keys="person:{{person_id}}",
    table="persons",
    columns={list(systems.COLUMNS)},
    target=Target("env:{systems.URL_VARIABLE}", name="bench"),
    on_change="MODE",
)
"""


def _prepare(url: str, count: int) -> None:
    """Fill the table and make its triggers."""
    engine = sa.create_engine(url)
    table = sa.table("persons", *map(sa.column, ("person_id", *systems.COLUMNS)))
    with engine.begin() as connection:
        rows = [{"person_id": str(number), **systems.image(number), "age": 0} for number in range(count)]
        connection.execute(sa.insert(table), rows)
    engine.dispose()
    connector = connect(url)
    triggers = triggers_of(connector)
    triggers.run(triggers.statements([connector.table("persons")]))
    connector.close()


def _change(url: str, count: int, committed: dict[int, float]) -> None:
    """Change one row after the other; remember when each was committed."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    statement = sa.text("UPDATE persons SET age = 1 WHERE person_id = :key")
    begin = time.perf_counter()
    with engine.connect() as connection:
        for number in range(count):
            time.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
            connection.execute(statement, {"key": str(number)})
            committed[number] = time.perf_counter()
    engine.dispose()


def _times(server: RedisServer, url: str, count: int, refreshes: bool) -> list[float]:
    """Return the staleness of each change in ms, as a polling reader of Redis sees it."""
    committed: dict[int, float] = {}
    times: list[float] = []
    seen: set[int] = set()
    writer = threading.Thread(target=_change, args=(url, count, committed))
    with server.client() as client:
        writer.start()
        while writer.is_alive() or len(seen) < len(committed):
            waiting = [number for number in list(committed) if number not in seen][:200]
            pipe = client.pipeline(transaction=False)
            for number in waiting:
                pipe.hget(f"person:{number}", "age")
            found = pipe.execute()
            now = time.perf_counter()
            fresh = [each for each, age in zip(waiting, found) if age == (b"1" if refreshes else None)]
            times += [(now - committed[number]) * 1000 for number in fresh]
            seen.update(fresh)
            time.sleep(0.001)
    writer.join()
    return times


def _one(kind: str, mode: str, quick: bool) -> Row:
    count = RATE * (3 if quick else 10)
    with systems.database(kind) as url, systems.redis("--appendonly", "no") as server:
        _prepare(url, count + 1)
        systems.deploy(server, url, functions=_FUNCTIONS.replace("MODE", mode))
        with systems.worker(server, url), server.client() as client:
            _wait_until_followed(server)
            for number in range(count):
                client.hset(f"person:{number}", mapping={**systems.image(number), "age": 0})
            times = _times(server, url, count, mode == "refresh")
    return {
        "database": kind,
        "on change": mode,
        "commits/s": RATE,
        "p50 ms": round(quantile(times, 0.5), 1),
        "p99 ms": round(quantile(times, 0.99), 1),
        "samples": len(times),
    }


def _wait_until_followed(server: RedisServer) -> None:
    deadline = time.monotonic() + 60
    while True:
        report = systems.status(server)["worker"]["report"] or {}
        around = report.get("targets", {}).get("bench", {}).get("around", {})
        if around.get("behind_s") == 0:
            return
        if time.monotonic() > deadline:
            raise ServerError(f"the follower did not begin within 60 s: {report}")
        time.sleep(0.05)


def run(quick: bool) -> list[Row]:
    """Measure each database that is here, both ways."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += [_one(kind, mode, quick) for mode in ("invalidate", "refresh")]
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("staleness", TITLE, run)
