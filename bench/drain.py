"""Rows a second from a filled lane to each database, beside the best plain bulk upsert in the same run."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from bench import plain, systems
from bench.plots import Plot
from bench.results import Row, main, median
from bench.schemas import PERSON, WIDE, Schema
from bench.systems import Spent
from tests.servers import RedisServer, ServerError, run_sql

TITLE = "Drain: from the lane to SQL by the worker, beside the best plain bulk upsert (one connection)"
PLOT = Plot("bars", "what", "ratio", "database", "of the plain bulk upsert's rows/s")
LANES = (1, 2, 4)
DELETED = 0.2
"""How many of the mixed changes are deletes."""
ZIPF = 1.2
PEER_OFFSET = 1000
"""What the peer writes is other than what the worker has written, each time."""


def commands_of(what: str, schema: Schema, keys: int, offset: int) -> Iterator[Sequence[Any]]:
    """Yield the commands whose changes are drained: ``keys`` of them."""
    chance = random.Random(offset)
    weights = list(itertools.accumulate((number + 1) ** -ZIPF for number in range(keys)))
    hot = iter(chance.choices(range(keys), cum_weights=weights, k=keys)) if what == "hot keys" else None
    for number in range(keys):
        at = number if hot is None else next(hot)
        if what == "deletes mixed in" and chance.random() < DELETED:
            yield "DEL", schema.key(at)
        else:
            image = schema.image(at, offset + (number if hot else 0))
            yield "HSET", schema.key(at), *[word for pair in image.items() for word in pair]


def _rows(schema: Schema, keys: int, offset: int) -> list[tuple[object, ...]]:
    return [(str(number), *schema.image(number, offset).values()) for number in range(keys)]


def _case(server: RedisServer, url: str, what: str, schema: Schema, keys: int, turn: int) -> Spent:
    if what == "insert":
        run_sql(url, f"DELETE FROM {schema.table()}")
    return systems.drain(server, url, lambda: systems.send(server, commands_of(what, schema, keys, turn)))


def _peer(url: str, what: str, schema: Schema, keys: int, turn: int) -> tuple[float, int]:
    between = ""
    if what == "insert":
        between = f"DELETE FROM {schema.table()}"
    else:
        # Those that the worker has deleted are there again, so that all are updates.
        plain.put(url, _rows(schema, keys, PEER_OFFSET + turn), schema)
    return plain.best_rate(
        url, lambda number: _rows(schema, keys, PEER_OFFSET + turn + number + 1), schema, between
    )


def _one(kind: str, schema: Schema, kinds: Sequence[str], quick: bool) -> list[Row]:
    keys = (30_000 if quick else 150_000) // (1 if schema is PERSON else 3)
    spent: dict[str, list[Spent]] = {what: [] for what in kinds}
    peers: dict[str, list[tuple[float, int]]] = {what: [] for what in kinds}
    with systems.database(kind, schema) as url, systems.redis("--appendonly", "no") as server:
        systems.deploy(server, url, functions=systems.functions_of(schema))
        most = plain.ceiling(url, _rows(schema, keys, 0), schema)
        for turn in range(1 if quick else 3):
            for place, what in enumerate(kinds):
                spent[what].append(_case(server, url, what, schema, keys, 10 * turn + place))
                peers[what].append(_peer(url, what, schema, keys, 10 * turn + place))
    return [
        {
            "database": kind,
            "columns": len(schema.columns),
            "what": what,
            "worker/s": round(median([each.rate for each in spent[what]])),
            "plain/s": round(median([rate for rate, _ in peers[what]])),
            "ratio": round(
                median([each.rate / rate for each, (rate, _) in zip(spent[what], peers[what])]), 2
            ),
            "COPY or LOAD DATA/s": round(most),
            "CPU s a million": round(median([each.cpu for each in spent[what]]), 1),
            "worker MB": round(max(each.megabytes for each in spent[what])),
        }
        for what in kinds
    ]


def _lanes(kind: str, quick: bool) -> list[Row]:
    keys = 40_000 if quick else 200_000
    rows: list[Row] = []
    for lanes in LANES:
        with systems.database(kind) as url, systems.redis("--appendonly", "no") as server:
            systems.deploy(server, url, functions=systems.functions_of(lanes=lanes))
            # Also so that the database has its log files, as one that has worked for a while.
            most = plain.ceiling(url, _rows(PERSON, keys, 0))
            run_sql(url, "DELETE FROM persons")
            spent = systems.drain(server, url, functools.partial(systems.fill, server, keys))
            peer, _ = _peer(url, "insert", PERSON, keys, lanes)
        rows.append(
            {
                "database": kind,
                "columns": 3,
                "what": f"insert, lanes: {lanes}",
                "worker/s": round(spent.rate),
                "plain/s": round(peer),
                "ratio": round(spent.rate / peer, 2),
                "COPY or LOAD DATA/s": round(most),
                "CPU s a million": round(spent.cpu, 1),
                "worker MB": round(spent.megabytes),
            }
        )
    return rows


def run(quick: bool) -> list[Row]:
    """Measure each database that is here."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += _one(kind, PERSON, ("insert", "update", "hot keys", "deletes mixed in"), quick)
            rows += _one(kind, WIDE, ("insert", "update"), quick)
            if kind != "sqlite":
                rows += _lanes(kind, quick)
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("drain", TITLE, run, PLOT)
