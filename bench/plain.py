"""The peers of the drain, on one connection: the best plain bulk upsert that a client would write, and what
the database takes at most (COPY, LOAD DATA).
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from bench.schemas import PERSON, Schema

Values = Sequence[tuple[Any, ...]]
Write = Callable[[Any, Values], None]
BATCHES = (1000, 2000, 5000)


def _names(schema: Schema) -> tuple[str, ...]:
    return ("person_id", *schema.columns)


def _changes(schema: Schema, form: str) -> str:
    return ", ".join(f"{name} = {form.format(name)}" for name in schema.columns)


def _postgres(schema: Schema) -> Write:
    arrays = ", ".join(f"%s::{'int' if type_ == 'INTEGER' else 'text'}[]" for type_ in ("", *schema.types))
    statement = (
        f"INSERT INTO {schema.table()} ({', '.join(_names(schema))}) SELECT * FROM unnest({arrays}) "
        f"ON CONFLICT (person_id) DO UPDATE SET {_changes(schema, 'EXCLUDED.{}')}"
    )
    return lambda cursor, rows: cursor.execute(statement, [list(column) for column in zip(*rows)])


def _mysql(schema: Schema) -> Write:
    # PyMySQL turns this into one statement of many rows.
    return _row_by_row(schema, "%s", f"ON DUPLICATE KEY UPDATE {_changes(schema, 'VALUES({})')}")


def _sqlite(schema: Schema) -> Write:
    return _row_by_row(
        schema, "?", f"ON CONFLICT (person_id) DO UPDATE SET {_changes(schema, 'excluded.{}')}"
    )


def _row_by_row(schema: Schema, place: str, otherwise: str) -> Write:
    names = _names(schema)
    places = ", ".join([place] * len(names))
    statement = f"INSERT INTO {schema.table()} ({', '.join(names)}) VALUES ({places}) {otherwise}"
    return lambda cursor, rows: cursor.executemany(statement, rows)


_WRITERS: dict[str, Callable[[Schema], Write]] = {
    "postgresql": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}


@contextlib.contextmanager
def _connection(url: str) -> Iterator[Any]:
    parsed = sa.make_url(url)
    options: dict[str, Any] = {}
    if parsed.get_backend_name() in ("mysql", "mariadb"):
        options = {"init_command": "SET NAMES utf8mb4", "local_infile": True}
    engine = sa.create_engine(parsed, connect_args=options)
    if parsed.get_backend_name() == "sqlite":
        with engine.connect() as first:
            first.exec_driver_sql("PRAGMA journal_mode = WAL")
    connection = engine.raw_connection()
    try:
        yield connection
    finally:
        connection.close()
        engine.dispose()


def best_rate(
    url: str, rows: Callable[[int], Values], schema: Schema = PERSON, between: str = ""
) -> tuple[float, int]:
    """Return rows a second and the batch size that was fastest, each batch committed; ``rows`` gives those of
    each try, which should differ: a database spares itself what changes nothing. ``between`` is a statement
    before each try.
    """
    write = _WRITERS[sa.make_url(url).get_backend_name()](schema)
    found = []
    with _connection(url) as connection:
        for number, batch in enumerate(BATCHES):
            values = rows(number)
            if between:
                connection.cursor().execute(between)
                connection.commit()
            begin = time.perf_counter()
            _in_batches(connection, write, values, batch)
            found.append((len(values) / (time.perf_counter() - begin), batch))
    return max(found)


def put(url: str, rows: Values, schema: Schema = PERSON) -> None:
    """Write rows by the plain upsert."""
    with _connection(url) as connection:
        _in_batches(connection, _WRITERS[sa.make_url(url).get_backend_name()](schema), rows, BATCHES[-1])


def _in_batches(connection: Any, write: Write, rows: Values, batch: int) -> None:
    for start in range(0, len(rows), batch):
        cursor = connection.cursor()
        write(cursor, rows[start : start + batch])
        connection.commit()
        cursor.close()


def ceiling(url: str, rows: Values, schema: Schema = PERSON) -> float:
    """Return rows a second of the raw way into an empty table, in one transaction; 0: SQLite has none."""
    lines = "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
    names, backend = ", ".join(_names(schema)), sa.make_url(url).get_backend_name()
    if backend == "sqlite":
        return 0.0
    with _connection(url) as connection, tempfile.NamedTemporaryFile(suffix=".tsv") as file:
        file.write(lines)
        file.flush()
        cursor = connection.cursor()
        cursor.execute(f"DELETE FROM {schema.table()}")
        connection.commit()
        begin = time.perf_counter()
        if backend == "postgresql":
            with cursor.copy(f"COPY {schema.table()} ({names}) FROM STDIN") as copy:
                copy.write(lines)
        else:
            cursor.execute(f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE {schema.table()} ({names})")
        connection.commit()
        return len(rows) / (time.perf_counter() - begin)
