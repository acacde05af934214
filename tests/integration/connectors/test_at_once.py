"""A batch as one statement of PostgreSQL, and what takes a transaction of several instead."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from connectors import Applied, Fenced, Unavailable
from connectors.postgres import connector as postgres
from tests.integration.connectors.conftest import Database

_AT_ONCE = "WITH moved AS"


@pytest.fixture
def told(on_postgres: Database) -> Database:
    """Tables that note by which statement they are written."""
    on_postgres.sql("CREATE TABLE statements (at SERIAL, place TEXT, text TEXT)")
    on_postgres.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO statements (place, text) VALUES (TG_TABLE_NAME, current_query()); "
        "RETURN NULL; END $$"
    )
    for name, column in (("people", "mail TEXT UNIQUE"), ("orders", "of TEXT REFERENCES people")):
        on_postgres.sql(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, {column})")
        on_postgres.sql(
            f"CREATE TRIGGER note AFTER INSERT OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION note()"
        )
    return on_postgres


def _statements(database: Database) -> list[tuple[Any, ...]]:
    found = database.sql(f"SELECT place, text LIKE '{_AT_ONCE}%%' FROM statements ORDER BY at")
    database.sql("DELETE FROM statements")
    return found


def _person(database: Database, name: bytes, mail: bytes) -> Any:
    return database.upsert("people", {"id": name, "mail": mail})


def test_rows_of_several_tables_and_the_position(told: Database) -> None:
    rows = [told.upsert("orders", {"id": b"1", "of": b"a"}), _person(told, b"a", b"a@x")]
    assert told.apply(*rows) == Applied(2, 0)
    assert sorted(_statements(told)) == [("orders", True), ("people", True)]
    assert told.checkpoint() == (1, 1, 0, 2)
    assert told.apply(told.delete("people", b"a"), told.delete("orders", b"1")) == Applied(2, 0)
    assert sorted(_statements(told)) == [("orders", True), ("people", True)]
    assert told.sql("SELECT count(*) FROM people") == [(0,)]
    assert told.checkpoint() == (1, 2, 0, 4)


def test_a_unique_value_that_another_row_takes_over(told: Database) -> None:
    told.apply(_person(told, b"a", b"a@x"))
    _statements(told)
    assert told.apply(_person(told, b"b", b"a@x"), told.delete("people", b"a")) == Applied(2, 0)
    assert _statements(told) == [("people", True)] * 2
    assert told.sql("SELECT id, mail FROM people") == [("b", "a@x")]


def test_a_row_twice_takes_a_transaction(told: Database) -> None:
    rows = [_person(told, b"a", b"a@x"), told.delete("people", b"a"), _person(told, b"a", b"b@x")]
    assert told.apply(*rows) == Applied(3, 0)
    assert _statements(told) == [("people", False)] * 3
    assert told.sql("SELECT id, mail FROM people") == [("a", "b@x")]


def test_a_refused_row_leaves_the_others(told: Database) -> None:
    rows = [_person(told, b"a", b"a@x"), told.upsert("orders", {"id": b"1", "of": b"nobody"})]
    assert told.apply(*rows) == Applied(1, 1)
    assert [(each.row.table, "foreign key" in each.reason) for each in told.refusals] == [("orders", True)]
    assert _statements(told) == [("people", False)]
    assert told.checkpoint() == (1, 1, 0, 1)


def test_a_constraint_that_waits_for_the_commit(told: Database) -> None:
    told.sql("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES people DEFERRABLE INITIALLY DEFERRED")
    rows = [told.upsert("orders", {"id": b"1", "of": None}), _person(told, b"a", b"a@x")]
    assert told.apply(*rows) == Applied(1, 1)
    assert [each.row.table for each in told.refusals] == ["orders"]
    assert told.sql("SELECT id FROM people") == [("a",)]


def test_a_table_with_a_rule(told: Database) -> None:
    """PostgreSQL takes no such table in a statement of several parts."""
    told.sql("CREATE TABLE gone (id TEXT)")
    told.sql("CREATE RULE keep AS ON DELETE TO orders DO ALSO INSERT INTO gone VALUES (OLD.id)")
    told.apply(told.upsert("orders", {"id": b"1", "of": None}))
    assert told.apply(told.delete("orders", b"1")) == Applied(1, 0)
    assert told.sql("SELECT id FROM gone") == [("1",)]
    assert told.checkpoint() == (1, 2, 0, 2)


def test_who_is_fenced_writes_nothing(told: Database) -> None:
    told.connector.claim(told.claim.stream, 1, "worker-2")
    with pytest.raises(Fenced):
        told.apply(_person(told, b"a", b"a@x"))
    assert told.sql("SELECT count(*) FROM people") == [(0,)]


def test_a_connection_that_breaks_may_have_committed(told: Database) -> None:
    """Only who claims again knows; then the next connection does it."""
    told.sql(
        "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
    )
    told.sql("CREATE TRIGGER break BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION end_it()")
    with pytest.raises(Unavailable) as raised:
        told.apply(_person(told, b"a", b"a@x"))
    assert raised.value.in_commit
    told.sql("DROP TRIGGER break ON people")
    told.claim = told.connector.claim(told.claim.stream, 1, "worker-1")
    assert told.claim.position == (0, 0, 0)
    assert told.apply(_person(told, b"a", b"a@x")) == Applied(1, 0)
    assert _statements(told) == [("people", True)]


def test_a_lane_needs_one_connection(told: Database) -> None:
    for name in (b"a", b"b", b"c"):
        told.apply(_person(told, name, name))
    told.apply(told.upsert("orders", {"id": b"1", "of": b"nobody"}))
    own = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gearsync'")
    with told.connector.transaction() as connection:
        assert connection.execute(own).scalar() == 1


def test_rows_of_more_shapes_than_a_statement_takes(on_postgres: Database) -> None:
    """Of a wide table few rows have the same columns, and a statement has at most 65535 parameters."""
    names = [f"c{at}" for at in range(80)]
    on_postgres.sql(f"CREATE TABLE wide (id INT PRIMARY KEY, {', '.join(f'{name} TEXT' for name in names)})")
    rows = []
    for key in range(1000):
        left_out = {key % 80, key // 80}
        given = {name: b"x" for at, name in enumerate(names) if at not in left_out}
        rows.append(on_postgres.upsert("wide", {"id": key, **given}))
    assert on_postgres.apply(*rows) == Applied(1000, 0)
    assert on_postgres.checkpoint() == (1, 1, 0, 1000)


def test_statements_are_not_remembered_for_ever(
    on_postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MOST_TEXTS", 3)
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT)")
    connector = on_postgres.connector
    assert isinstance(connector, postgres.PostgresConnector)
    for names in ("a", "b", "c", "ab", "bc", "ac", "abc", "a"):
        on_postgres.apply(on_postgres.upsert("t", {"id": 1, **dict.fromkeys(names, 1)}))
        assert 0 < len(connector._texts_at_once) <= 3
