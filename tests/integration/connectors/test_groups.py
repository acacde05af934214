"""The group commit of write-through as one statement, and what its session may lose meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from connectors import ConnectorError, connect
from connectors.pool import IDLE_SECONDS
from tests.integration.connectors.conftest import Database


@pytest.fixture
def grouped(on_postgres: Database) -> Database:
    on_postgres.connector.ensure_intents()
    on_postgres.sql('CREATE TABLE "of %s" (id TEXT PRIMARY KEY, n TEXT)')
    return on_postgres


@pytest.fixture(params=["postgres", "mariadb"])
def grouped_on(request: pytest.FixtureRequest) -> Iterator[Database]:
    url = request.getfixturevalue(f"{request.param}_url")
    connector = connect(url)
    database = Database(url, connector)
    connector.ensure_intents()
    database.sql('CREATE TABLE "of %s" (id VARCHAR(9) PRIMARY KEY, n VARCHAR(9))')
    yield database
    connector.close()


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


def test_session_that_was_closed_while_it_was_idle(
    grouped_on: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next client's write does not meet it: MySQL closes it after two minutes."""
    _commit(grouped_on, [grouped_on.upsert("of %s", {"id": b"a", "n": b"1"})])
    end = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "SELECT CONCAT('KILL ', id) FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }[grouped_on.backend]
    for (kill,) in grouped_on.sql(end):
        if grouped_on.backend == "mysql":
            grouped_on.sql(kill)
    time.sleep(IDLE_SECONDS)
    _commit(grouped_on, [grouped_on.upsert("of %s", {"id": b"a", "n": b"2"})])
    assert grouped_on.sql('SELECT n FROM "of %s"') == [("2",)]
