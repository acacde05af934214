"""The group commit of write-through as one statement, and what its session may lose meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import make_url

from connectors import ConnectorError
from tests.integration.connectors.conftest import Database


@pytest.fixture
def grouped(on_postgres: Database) -> Database:
    on_postgres.connector.ensure_intents()
    on_postgres.sql('CREATE TABLE "of %s" (id TEXT PRIMARY KEY, n TEXT)')
    return on_postgres


def _commit(database: Database, *units: list[Any]) -> None:
    def record(refused: dict[int, ConnectorError]) -> bytes:
        assert not refused
        return b"\0record"

    database.connector.commit_intents(database.claim, database.next_position(), None, units, record)


def _session(database: Database, statement: str) -> list[Any]:
    """Run a statement in the session of the groups."""
    connection = database.connector._lasting
    assert connection is not None
    result = connection.exec_driver_sql(statement)
    return list(result) if result.returns_rows else []


def _prepared(database: Database) -> int:
    [(count,)] = _session(
        database, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'gearsync%%'"
    )
    return int(count)


def test_a_shape_is_prepared_once(grouped: Database) -> None:
    for n in range(8):
        _commit(grouped, [grouped.upsert("of %s", {"id": b"a%d" % n, "n": b"%d" % n})])
    assert _prepared(grouped) == 1
    _commit(grouped, [grouped.delete("of %s", b"a0")], [grouped.upsert("of %s", {"id": b"b", "n": None})])
    assert _prepared(grouped) == 2
    assert sorted(grouped.sql('SELECT * FROM "of %s"')) == [
        *((f"a{n}", str(n)) for n in range(1, 8)),
        ("b", None),
    ]
    assert grouped.sql("SELECT count(*), record FROM gearsync_intent GROUP BY 2") == [(9, b"\0record")]
    assert grouped.checkpoint() == (1, 9, 0, 10)


def test_a_session_that_knows_nothing_of_it(grouped: Database) -> None:
    """So it is behind a pooler, which gives each transaction any session."""
    for n in range(3):
        _commit(grouped, [grouped.upsert("of %s", {"id": b"a", "n": b"%d" % n})])
        _session(grouped, "DEALLOCATE ALL")
    assert _prepared(grouped) == 0
    assert grouped.sql('SELECT n FROM "of %s"') == [("2",)]
    assert grouped.checkpoint() == (1, 3, 0, 3)


def test_a_column_of_another_type(grouped: Database) -> None:
    """The statement is of the types that the columns had; it is made anew, not refused for ever."""
    _commit(grouped, [grouped.upsert("of %s", {"id": b"a", "n": b"1"})])
    grouped.sql('ALTER TABLE "of %s" ALTER COLUMN n TYPE INT USING n::int')
    _commit(grouped, [grouped.upsert("of %s", {"id": b"a", "n": b"2"})])
    _commit(grouped, [grouped.upsert("of %s", {"id": b"a", "n": b"3"})])
    before = _prepared(grouped)
    _commit(grouped, [grouped.upsert("of %s", {"id": b"a", "n": b"4"})])
    assert grouped.sql('SELECT n FROM "of %s"') == [(4,)]
    assert _prepared(grouped) == before == 2


def test_the_encoding_of_the_database(grouped: Database) -> None:
    name = make_url(grouped.url).database
    grouped.sql(f"ALTER DATABASE \"{name}\" SET client_encoding TO 'LATIN1'")
    _commit(grouped, [grouped.upsert("of %s", {"id": "ä".encode(), "n": "ß".encode()})])
    assert grouped.sql('SELECT id, n FROM "of %s"') == [("ä", "ß")]
