"""Rows a second from a filled lane to each database, beside the best plain bulk upsert in the same run."""

from __future__ import annotations

import time

from bench import plain, systems
from bench.results import Row, main, median
from tests.servers import RedisServer, ServerError, run_sql

TITLE = "Drain: from the lane to SQL by the worker, beside the best plain bulk upsert (one connection)"


def _drain(server: RedisServer, url: str, keys: int, offset: int) -> float:
    """Fill the lane, start the worker, and return its rows a second from its first commit on."""
    systems.fill(server, keys, offset)
    with systems.worker(server, url):
        systems.wait_below(server, keys)
        left, begin = systems.backlog(server), time.perf_counter()
        systems.wait_empty(server)
        return left / (time.perf_counter() - begin)


def _rows(keys: int, offset: int) -> list[tuple[object, ...]]:
    return [(str(number), *systems.image(number, offset).values()) for number in range(keys)]


def _one(kind: str, quick: bool) -> list[Row]:
    keys = 40_000 if quick else 150_000
    figures: dict[str, dict[str, list[float]]] = {"insert": {}, "update": {}}
    batch = 0
    with systems.database(kind) as url, systems.redis("--appendonly", "no") as server:
        systems.deploy(server, url)
        for turn in range(1 if quick else 3):
            run_sql(url, "DELETE FROM persons")
            for offset, what in enumerate(("insert", "update")):
                rate = _drain(server, url, keys, offset + 2 * turn)
                figures[what].setdefault("worker", []).append(rate)
            for offset, what in enumerate(("insert", "update")):
                if what == "insert":
                    run_sql(url, "DELETE FROM persons")
                rate, batch = plain.best_rate(url, _rows(keys, offset + 2 * turn + 1))
                figures[what].setdefault("plain", []).append(rate)
    rows: list[Row] = []
    for what, each in figures.items():
        worker, bulk = median(each["worker"]), median(each["plain"])
        row: Row = {
            "database": kind,
            "rows": keys,
            "what": what,
            "worker/s": round(worker),
            "plain/s": round(bulk),
        }
        rows.append({**row, "best batch": batch, "ratio": round(worker / bulk, 2)})
    return rows


def run(quick: bool) -> list[Row]:
    """Measure each database that is here."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += _one(kind, quick)
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main(TITLE, run)
