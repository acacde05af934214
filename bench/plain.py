"""The peer of the drain: the best plain bulk upsert that a client would write, on one connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

Values = Sequence[tuple[Any, ...]]
BATCHES = (1000, 2000, 5000)


def _postgres(cursor: Any, rows: Values) -> None:
    columns = [list(column) for column in zip(*rows)]
    cursor.execute(
        "INSERT INTO persons (person_id, first, last, age) "
        "SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[]) ON CONFLICT (person_id) "
        "DO UPDATE SET first = EXCLUDED.first, last = EXCLUDED.last, age = EXCLUDED.age",
        columns,
    )


def _mysql(cursor: Any, rows: Values) -> None:
    # PyMySQL turns this into one statement of many rows.
    cursor.executemany(
        "INSERT INTO persons (person_id, first, last, age) VALUES (%s, %s, %s, %s) "
        "ON DUPLICATE KEY UPDATE first = VALUES(first), last = VALUES(last), age = VALUES(age)",
        rows,
    )


def _sqlite(cursor: Any, rows: Values) -> None:
    cursor.executemany(
        "INSERT INTO persons (person_id, first, last, age) VALUES (?, ?, ?, ?) ON CONFLICT (person_id) "
        "DO UPDATE SET first = excluded.first, last = excluded.last, age = excluded.age",
        rows,
    )


_WRITERS: dict[str, Callable[[Any, Values], None]] = {
    "postgresql": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}


def best_rate(url: str, rows: Values) -> tuple[float, int]:
    """Return rows a second and the batch size that was fastest, each batch committed."""
    parsed = sa.make_url(url)
    write = _WRITERS[parsed.get_backend_name()]
    options = {"init_command": "SET NAMES utf8mb4"} if "mysql" in parsed.drivername else {}
    engine = sa.create_engine(parsed, connect_args=options)
    if parsed.get_backend_name() == "sqlite":
        with engine.connect() as first:
            first.exec_driver_sql("PRAGMA journal_mode = WAL")
    connection = engine.raw_connection()
    found = []
    for batch in BATCHES:
        begin = time.perf_counter()
        for start in range(0, len(rows), batch):
            cursor = connection.cursor()
            write(cursor, rows[start : start + batch])
            connection.commit()
            cursor.close()
        found.append((len(rows) / (time.perf_counter() - begin), batch))
    connection.close()
    engine.dispose()
    return max(found)
