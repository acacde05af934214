"""From a change to a row operation: values, absent fields, transforms, and what is said of faults."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors import RowOp, SchemaMismatch
from gears.applying import change as changes
from gears.applying.change import Change
from gears.applying.conversion import MAX_NAMES, MAX_REASON, MAX_SHAPES, Converter, RowFault
from gears.declaring.functions import Change as SeenChange
from tests.unit.gears.batches import change, converter


def row(change: Change, by: Converter | None = None, op: str = "") -> RowOp | None:
    by = by or converter()
    parts = by.match(change.key)
    assert parts is not None
    return by.row(change, op.encode() or change.op, parts)


def made(change: Change, by: Converter | None = None, op: str = "") -> RowOp:
    found = row(change, by, op)
    assert found is not None
    return found


def fault(change: Change, by: Converter | None = None) -> tuple[str, str]:
    with pytest.raises(RowFault) as raised:
        row(change, by)
    return raised.value.fault.column, raised.value.fault.reason


def test_values_are_converted_in_the_order_of_the_columns() -> None:
    found = made(change("u", "person:7", age="42", name="Ada"))
    assert (found.table, found.kind, found.key) == ("persons", "upsert", (7,))
    assert (found.columns, found.values) == (("id", "name", "age"), (7, "Ada", 42))


@pytest.mark.parametrize(
    ("op", "columns", "values", "nulls", "defaults"),
    [
        ("u", ("id", "name"), (1, "Ada"), (), ()),
        ("r", ("id", "name"), (1, "Ada"), ("age", "note"), ()),
        ("n", ("id", "name"), (1, "Ada"), (), ("age", "note")),
        (changes.EMPTIED.decode(), ("id", "name", "age"), (1, "Ada", None), ("note",), ()),
    ],
)
def test_what_becomes_of_absent_fields(op: str, columns: Any, values: Any, nulls: Any, defaults: Any) -> None:
    found = made(change("u", name="Ada"), op=op)
    assert (found.columns, found.values) == (columns, values)
    assert (found.nulls, found.defaults) == (nulls, defaults)


def test_a_field_that_no_column_takes_is_left_out() -> None:
    assert made(change("u", name="Ada", shoe="42")).columns == ("id", "name")


@pytest.mark.parametrize("op", ["d", "x", "v"])
def test_a_key_that_is_gone_is_a_delete(op: str) -> None:
    found = made(change(op, "person:7"))
    assert (found.kind, found.key, found.columns) == ("delete", (7,), ())


def test_a_key_that_no_column_takes_never_had_a_row() -> None:
    assert row(change("d", "person:seven")) is None
    column, reason = fault(change("u", "person:seven"))
    assert column == "id"
    assert reason.startswith("column id (from the key): ")


def test_the_column_that_refuses_is_named() -> None:
    column, reason = fault(change("u", name="Ada", age="many", note="x"))
    assert (column, reason[:12]) == ("age", "column age: ")
    assert fault(change("u", name="far too long"))[0] == "name"


def test_policies_say_whether_a_row_stays() -> None:
    by = converter(on_delete="keep", on_expire="delete", on_evict="keep")
    assert [by.keeps(op) for op in (changes.DELETED, changes.EXPIRED, changes.EVICTED)] == [True, False, True]


def test_hashes_of_any_fields_do_not_fill_the_memory() -> None:
    by = converter()
    for number in range(MAX_SHAPES + 10):
        made(change("u", **{f"field{number}": "1", "name": "Ada"}), by)
    assert len(by._shapes) <= MAX_SHAPES


def test_hashes_of_many_fields_do_not_fill_the_memory() -> None:
    by = converter()
    wide = MAX_NAMES // 40
    for number in range(100):
        by.shape(tuple(b"%d-%d" % (number, at) for at in range(wide)))
    assert sum(map(len, by._shapes)) <= MAX_NAMES + wide


def test_a_table_without_a_column_is_told_with_its_function() -> None:
    with pytest.raises(SchemaMismatch, match=r"no column height, which function people needs"):
        converter(columns=["name", "height"], name="people")


def test_a_table_with_another_primary_key_is_told() -> None:
    with pytest.raises(SchemaMismatch, match=r"\(id\), but the keys of function persons give \(name\)"):
        converter(keys="person:{name}", columns=["age"])


@pytest.mark.parametrize(("length", "kept"), [(MAX_REASON, MAX_REASON), (MAX_REASON + 1, MAX_REASON + 1)])
def test_what_a_database_says_is_cut(length: int, kept: int) -> None:
    reason = converter().refused("x" * length, "").reason
    assert len(reason) == kept
    assert reason.endswith("…") is (length > MAX_REASON)
    assert converter().refused("no", "age").reason == "column age: no"


# -- Transforms --------------------------------------------------------------------------------------------


def test_a_transform_sees_text_and_may_change_all() -> None:
    def transform(seen: SeenChange) -> SeenChange:
        assert (seen.key, seen.op, seen.primary_key) == ("person:7", "upsert", {"id": "7"})
        seen.primary_key["id"] = "8"
        seen.fields = {"name": seen.fields["name"].upper(), "age": 42}
        return seen

    found = made(change("u", "person:7", name="Ada"), converter(transform=transform))
    assert (found.key, found.values) == ((8,), (8, "ADA", 42))


def test_a_transform_may_drop_a_change_delete_a_row_or_write_it_after_all() -> None:
    def delete(seen: SeenChange) -> SeenChange:
        seen.op = "delete"
        return seen

    def write(seen: SeenChange) -> SeenChange:
        seen.op, seen.fields = "upsert", {"name": "gone"}
        return seen

    assert row(change("u", name="Ada"), converter(transform=lambda seen: None)) is None
    assert made(change("u", name="Ada"), converter(transform=delete)).kind == "delete"
    found = made(change("d"), converter(transform=write))
    assert (found.kind, found.values) == ("upsert", (1, "gone"))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("name"), "raised KeyError: 'name'"),
        (ValueError("one\ntwo"), "raised ValueError: one"),
        (ValueError(), "raised ValueError"),
        (SystemExit(3), "raised SystemExit: 3"),
        (asyncio.CancelledError(), "raised CancelledError"),
        (Unspeakable(), "raised Unspeakable"),
        (ValueError("x" * 9000), "raised ValueError: " + "x" * MAX_REASON),
    ],
)
def test_whatever_a_transform_raises_stops_its_change_only(error: BaseException, said: str) -> None:
    def transform(seen: SeenChange) -> SeenChange:
        raise error

    assert fault(change("u"), converter(transform=transform)) == ("", f"the transform of persons {said}")


def altered(**attributes: Any) -> Any:
    def transform(seen: SeenChange) -> SeenChange:
        for name, value in attributes.items():
            setattr(seen, name, value)
        return seen

    return transform


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (lambda seen: 7, "returned a int; it must return its Change, or None to drop it"),
        (altered(op="insert"), "returned a change whose op is neither upsert nor delete"),
        (altered(fields=[1]), "returned a change whose fields are no dict of names and values"),
        (altered(fields={1: 2}), "returned a change whose fields are no dict of names and values"),
        (altered(primary_key={"name": "x"}), "returned a change whose primary_key has not just id"),
        (altered(primary_key={"id": None}), "returned a change without a value for id in its key"),
    ],
)
def test_what_a_transform_must_return(transform: Any, said: str) -> None:
    assert fault(change("u", name="Ada"), converter(transform=transform))[1] == (
        f"the transform of persons {said}"
    )


def test_a_value_of_a_transform_that_does_not_fit_names_its_column() -> None:
    assert fault(change("u"), converter(transform=altered(fields={"age": "old"})))[0] == "age"
