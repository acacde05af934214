"""What the adapter for rgsync makes of records, without a database."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import sqlalchemy as sa

from connectors import Column, RowOp, SchemaMismatch, Table, Target
from connectors.rgsync import RgsyncConnector, _Batch
from connectors.values.types import integer, text

PERSONS = Table(
    "persons",
    {
        "person_id": Column("person_id", sa.Integer(), "INTEGER", integer(0, 99), primary_key=True),
        "first": Column("first", sa.Text(), "TEXT", text()),
        "age": Column("age", sa.Integer(), "INTEGER", integer(0, 200)),
    },
    ("person_id",),
    [],
)


def upsert(key: Any, **columns: Any) -> dict[str, Any]:
    return {"value": {"person_id": key, "#": "=", **columns}}


def delete(key: Any) -> dict[str, Any]:
    return {"value": {"person_id": key, "#": "~"}}


def batch(*records: dict[str, Any]) -> _Batch:
    return _Batch(PERSONS, "person_id", records)


def shown(rows: list[RowOp]) -> list[tuple[Any, ...]]:
    return [(row.kind, row.values or row.key) for row in rows]


def test_protocol_of_names() -> None:
    connector = RgsyncConnector(Target("env:NOT_SET"), "persons", "person_id")
    assert (connector.TableName(), connector.PrimaryKey()) == ("persons", "person_id")
    connector.PrepereQueries({"first_name": "first"})  # without a database


def test_a_pickled_connector_brings_no_connection_along(sqlite_url: str) -> None:
    connector = RgsyncConnector(Target(sqlite_url, schema="main"), "persons", "person_id")
    connector._connector()
    copy = pickle.loads(pickle.dumps(connector))  # noqa: S301 (our own)
    assert repr(copy) == repr(connector)
    assert copy.target.schema == "main"
    assert copy._open is None
    connector.close()


def test_values_become_what_the_columns_hold() -> None:
    rows = batch(upsert("7", first="Ada", age="36")).rows
    assert shown(rows) == [("upsert", (7, 36, "Ada"))]
    assert rows[0].columns == ("person_id", "age", "first")


def test_columns_have_one_order_whatever_the_order_of_the_fields() -> None:
    rows = batch(upsert("1", first="a", age="1"), upsert("2", age="2", first="b")).rows
    assert rows[0].columns == rows[1].columns


def test_names_that_begin_with_an_underscore_are_rgsyncs_own() -> None:
    assert shown(batch(upsert("1", _original_key="person:1", age="1")).rows) == [("upsert", (1, 1))]


def test_a_column_may_begin_with_an_underscore() -> None:
    columns = {**PERSONS.columns, "_note": Column("_note", sa.Text(), "TEXT", text())}
    made = _Batch(
        Table("persons", columns, ("person_id",), []), "person_id", [upsert("1", _note="x", _uuid="y")]
    )
    assert shown(made.rows) == [("upsert", (1, "x"))]


def test_what_is_no_utf8_comes_as_bytearray() -> None:
    made = batch(upsert("1", first=bytearray(b"\xff")), upsert("2", first=bytearray(b"ok")))
    assert [each.column for each in made.faults] == ["first"]
    assert shown(made.rows) == [("upsert", (2, "ok"))]


def test_a_later_state_of_a_row_replaces_the_earlier_ones() -> None:
    made = batch(upsert("1", age="1"), upsert("2", age="9"), upsert("1", age="2"), upsert("1", age="3"))
    assert shown(made.rows) == [("upsert", (2, 9)), ("upsert", (1, 3))]
    assert shown(made.earlier(made.rows[1])) == [("upsert", (1, 1)), ("upsert", (1, 2))]
    assert made.earlier(made.rows[0]) == []


def test_a_delete_replaces_what_was_before_it() -> None:
    assert shown(batch(upsert("1", age="1"), delete("1")).rows) == [("delete", (1,))]


def test_a_delete_stays_before_an_upsert() -> None:
    """Columns that are not mapped get their defaults by it."""
    rows = batch(delete("1"), upsert("1", age="1"), upsert("1", age="2")).rows
    assert shown(rows) == [("delete", (1,)), ("upsert", (1, 2))]


def test_an_upsert_of_other_columns_stays() -> None:
    rows = batch(upsert("1", first="a"), upsert("1", age="2")).rows
    assert shown(rows) == [("upsert", (1, "a")), ("upsert", (1, 2))]


def test_a_value_that_does_not_fit_is_a_fault_and_the_state_before_it_stays() -> None:
    made = batch(upsert("1", age="1"), upsert("1", age="old"))
    assert shown(made.rows) == [("upsert", (1, 1))]
    assert made.faults[0].column == "age"
    assert made.faults[0].reason == "column age: the value is no whole number written in digits"


def test_a_key_that_does_not_fit_is_a_fault_except_in_a_delete() -> None:
    made = batch(upsert("x", age="1"), delete("x"))
    assert made.rows == []
    assert [each.column for each in made.faults] == ["person_id"]


def test_an_operation_that_rgsync_does_not_hand_over_is_a_fault() -> None:
    made = batch({"value": {"person_id": "1", "#": "+"}})
    assert made.rows == []
    assert made.faults[0].reason == "the operation + is neither = nor ~"


def test_a_column_that_the_table_lacks_is_for_an_operator() -> None:
    with pytest.raises(SchemaMismatch, match="the table persons has no column last"):
        batch(upsert("1", last="Lovelace"))


def test_a_primary_key_that_the_table_does_not_have_is_for_an_operator() -> None:
    with pytest.raises(SchemaMismatch, match="is \\(person_id\\), but the recipe names id"):
        _Batch(PERSONS, "id", [])
