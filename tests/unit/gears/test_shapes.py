"""Columns that no single field fills: how they are declared, and what stands in them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import sqlalchemy as sa

from connectors import Connector, RowOp, SchemaMismatch
from connectors.tables import Column, Table
from connectors.values import times, types
from gears.applying.added import Origin, fields_of
from gears.applying.change import Change
from gears.applying.conversion import Converter, RowFault
from gears.applying.converters import converter_for
from gears.applying.images import RowReader
from gears.applying.pipeline import Batch
from gears.declaring import config
from gears.declaring.additions import HISTORY, HISTORY_KEY
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError, PayloadError
from gears.declaring.functions import Change as SeenChange
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from tests.unit.gears.batches import change

STREAM = "gearsync:{0}:lane:0123456789ab:people:reporting:0.1"
PYTHON = """
from connectors import Target
from gears import ReadThrough, WriteBehind

reporting = Target("env:REPORTING_DB_URL", name="reporting")
WriteBehind(
    keys="person:{id}", table="persons", columns={"name": "name"}, target=reporting,
    rest="others", rest_bytes="base64", constants={"tenant": "eu", "level": 3}, on_delete="mark",
    computed={"full": "{name} {last} of {id}", "at": "{@time}"},
)
ReadThrough(
    keys="person:{id}", table="persons", target=reporting, rest="others", deleted_at="deleted_at"
)
WriteBehind(keys="person:{id}", table="changes", columns=["name"], target=reporting, history=True)
"""
TOML = """
[targets.reporting]
url = "env:REPORTING_DB_URL"

[[functions]]
kind = "write-behind"
keys = "person:{id}"
table = "persons"
target = "reporting"
columns = ["name"]
rest = "others"
rest_bytes = "base64"
on_delete = "mark"
constants = {tenant = "eu", level = 3}
[functions.computed]
full = "{name} {last} of {id}"
at = "{@time}"

[[functions]]
kind = "read-through"
keys = "person:{id}"
table = "persons"
target = "reporting"
rest = "others"
deleted_at = "deleted_at"

[[functions]]
kind = "write-behind"
keys = "person:{id}"
table = "changes"
target = "reporting"
columns = ["name"]
history = true
"""


class Tables:
    """Stands for a connector where only its tables are asked for."""

    rows: tuple[tuple[bytes | None, ...], ...] = ()

    def table(self, name: str) -> Table:
        kinds: dict[str, tuple[Any, Any]] = {
            "id": (sa.Integer(), types.integer(-9, 9_000_000)),
            "name": (sa.String(8), types.text(8)),
            "others": (sa.JSON(), types.json_text()),
            "tenant": (sa.String(8), types.text(8)),
            "level": (sa.Integer(), types.integer(0, 9)),
            "full": (sa.Text(), types.text()),
            "at": (sa.DateTime(), times.timestamp(False)),
            "whole_at": (sa.DateTime(), times.timestamp(False, 0)),
            "ms": (sa.BigInteger(), types.integer(0, 1 << 62)),
            "change_lane": (sa.String(255), types.text(255)),
            "change_op": (sa.String(8), types.text(8)),
            "changed_at": (sa.DateTime(), times.timestamp(False)),
            **{
                f"change_{each}": (sa.BigInteger(), types.integer(0, 1 << 62))
                for each in ("epoch", "ms", "seq")
            },
        }
        columns = {
            each: Column(each, type_, "TYPE", convert, nullable=each != "id", primary_key=each == "id")
            for each, (type_, convert) in kinds.items()
        }
        key = (*HISTORY_KEY, "id") if name == "history" else ("id",)
        return Table(name, columns, key, [])

    def read(self, name: str, keys: Any, columns: Any) -> Any:
        return list(self.rows)


def function(transform: bool = False, **options: Any) -> Function:
    written = {"keys": "person:{id}", "table": "persons", "columns": ["name"], **options}
    mapping, problems = build(written, transform)
    assert mapping is not None, problems
    return Function("persons", mapping, "reporting", "transform" if transform else None)


def converter(transform: Any = None, **options: Any) -> Converter:
    made = function(transform is not None, **options)
    return converter_for(made, transform, cast("Connector", Tables()), Origin("people", STREAM))


def row(by: Converter, entry: Change) -> dict[str, Any]:
    """Return the columns of the upsert of a change."""
    parts = by.match(entry.key)
    assert parts is not None
    found = by.row(entry, entry.op, parts)
    assert isinstance(found, RowOp)
    return dict(zip(found.columns, found.values))


def fault(by: Converter, entry: Change) -> tuple[str, str]:
    with pytest.raises(RowFault) as raised:
        row(by, entry)
    return raised.value.fault.column, raised.value.fault.reason


def load(tmp_path: Any, name: str, text: str) -> Deployment:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return config.load(str(tmp_path / name))


def problems(**options: Any) -> list[tuple[str, str]]:
    written = {"keys": "person:{id}", "table": "persons", "columns": ["name"], **options}
    return build(written, False)[1]


# -- Declarations ------------------------------------------------------------------------------------------


def test_both_forms_and_the_payload_are_the_same(tmp_path: Any) -> None:
    python, toml = load(tmp_path, "functions.py", PYTHON), load(tmp_path, "functions.toml", TOML)
    again = Deployment.from_payload(python.to_payload())
    mappings = [[each.mapping for each in deployment.functions] for deployment in (python, toml, again)]
    assert mappings[0] == mappings[1] == mappings[2]
    written, read, history = mappings[0]
    assert written.written == ("name", "others", "tenant", "level", "full", "at", "deleted_at")
    assert (read.columns, read.additions.rest, read.additions.deleted_at) == ({}, "others", "deleted_at")
    assert history.written == ("name", *HISTORY)


def test_an_older_gearsync_does_not_pass_over_what_it_does_not_know(tmp_path: Any) -> None:
    plain = PYTHON.split("WriteBehind(\n")[0] + (
        'WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=reporting)\n'
    )
    assert json.loads(load(tmp_path, "plain.py", plain).to_payload())["format"] == 1
    payload = json.loads(load(tmp_path, "functions.py", PYTHON).to_payload())
    assert payload["format"] == 2
    with pytest.raises(PayloadError, match="install the newer gearsync"):
        Deployment.from_payload(json.dumps({**payload, "format": 4}))


@pytest.mark.parametrize(
    ("options", "captured"),
    [
        ({"rest": "others"}, None),
        ({"constants": {"tenant": "eu"}}, ["name"]),
        ({"computed": {"full": "{first} {id} {@key} {name}"}}, ["name", "first"]),
    ],
)
def test_what_is_captured(options: dict[str, Any], captured: Any) -> None:
    assert function(**options).captured_fields() == captured


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rest": 3}, ("rest", "3 is not a column's name")),
        ({"rest": "name"}, ("rest", "the column name is filled from the field name already")),
        ({"rest": "id"}, ("rest", "the column id is filled from the key already")),
        ({"rest_bytes": "base64"}, ("rest_bytes", "there is none")),
        ({"rest": "others", "rest_bytes": "hex"}, ("rest_bytes", '"refuse" or "base64"')),
        ({"constants": {"name": "x"}}, ("constants", "filled from the field name already")),
        ({"constants": {"level": [3]}}, ("constants", "level: [3] is neither text, number nor truth value")),
        ({"constants": ["level"]}, ("constants", "is not a dict of columns")),
        ({"computed": {"full": "{name"}}, ("computed", "full: a brace stands alone in '{name'")),
        ({"computed": {"full": "eu"}}, ("computed", "belongs in constants")),
        ({"computed": {"full": "{@tim}"}}, ("computed", "full: there is no {@tim}; there are {@time}, ")),
        ({"computed": {"full": len}}, ("computed", "callables belong into a transform")),
        (
            {"constants": {"full": "x"}, "computed": {"full": "{name}"}},
            ("computed", "filled from constants already"),
        ),
        ({"columns": []}, ("columns", "no field is mapped")),
        ({"deleted_at": "gone"}, ("deleted_at", "no row is marked: on_delete, on_expire, on_evict say so")),
        ({"on_evict": "mark", "deleted_at": 1}, ("deleted_at", "1 is not a column's name")),
        (
            {"on_expire": "mark", "columns": ["deleted_at"]},
            ("deleted_at", "filled from the field deleted_at"),
        ),
        ({"on_flush": "mark"}, ("on_flush", '\'mark\' is no policy; write "delete" or "keep"')),
        ({"on_delete": "erase"}, ("on_delete", '"delete" or "keep" or "mark"')),
        ({"history": "yes"}, ("history", "'yes' is neither true nor false")),
        ({"history": True, "on_delete": "mark"}, ("on_delete", "a history has a row for each deletion")),
        ({"history": True, "on_flush": "delete"}, ("on_flush", "a history keeps its rows")),
        ({"history": True, "type": "json"}, ("history", "this is for hashes; keys of type json")),
        ({"history": True, "columns": ["change_ms"]}, ("history", "the column change_ms is filled from")),
    ],
)
def test_mistakes(options: dict[str, Any], expected: tuple[str, str]) -> None:
    found = problems(**options)
    assert [option for option, _ in found] == [expected[0]]
    assert expected[1] in found[0][1]


def test_mistakes_have_their_place(tmp_path: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        load(tmp_path, "functions.toml", TOML.replace('"{@time}"', '"{@now}"'))
    assert "functions.toml:5" in str(caught.value) and "at: there is no {@now}" in str(caught.value)
    read_only = TOML.replace('rest = "others"\ndeleted_at', 'constants = {tenant = "eu"}\ndeleted_at')
    with pytest.raises(DeclarationError) as caught:
        load(tmp_path, "functions.toml", read_only)
    assert "constants: there is no such option" in str(caught.value)


def test_who_reads_rows_must_know_of_marks(tmp_path: Any) -> None:
    text = PYTHON.replace(', deleted_at="deleted_at"', "")
    with pytest.raises(DeclarationError) as caught:
        load(tmp_path, "functions.py", text)
    assert 'persons marks rows that are deleted; give this one deleted_at="deleted_at"' in str(caught.value)


# -- The rest of the hash ----------------------------------------------------------------------------------


def test_the_rest_of_a_hash_is_one_document_in_the_order_of_names() -> None:
    found = row(converter(rest="others"), change("u", b="2", name="Ada", a="ä", é="3"))
    assert found == {"id": 1, "name": "Ada", "others": '{"a":"ä","b":"2","é":"3"}'}
    assert row(converter(rest="others"), change("r", name="Ada"))["others"] == "{}"
    assert row(converter(rest="others", columns=[]), change("u", name="Ada"))["others"] == '{"name":"Ada"}'


def test_what_others_wrote_into_the_rest_keeps_its_digits() -> None:
    number = "12345678901234567.890" + "1" * 5000
    nested = f'{{"ä":[{number},-0.10,true,null]}}'
    document = f'{{"long": {number}, "whole": {"9" * 5000}, "nested": {nested}, "none": null, "yes": true}}'
    assert fields_of(document.encode(), False) == {
        b"long": number.encode(),
        b"whole": b"9" * 5000,
        b"nested": nested.encode(),
        b"yes": b"true",
    }
    assert fields_of(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", False) == {}


def test_bytes_in_the_rest() -> None:
    entry = change("u")._replace(fields=(b"raw", b"name"), values=[b"\xff\x00", b"Ada"])
    column, reason = fault(converter(rest="others"), entry)
    assert (column, reason) == (
        "others",
        'column others: the field raw is no UTF-8 text; rest_bytes="base64" would take it as it is',
    )
    found = row(converter(rest="others", rest_bytes="base64"), entry)["others"]
    assert found == '{"raw":{"base64":"/wA="}}'
    assert fields_of(found.encode(), True) == {b"raw": b"\xff\x00"}
    assert fields_of(b'{"raw": {"base64": 1234}, "no": {"base64": "?"}}', True) == {
        b"raw": b'{"base64":1234}',
        b"no": b'{"base64":"?"}',
    }
    named = change("u")._replace(fields=(b"\xfe",), values=[b"1"])
    for option in ("refuse", "base64"):
        assert (
            r"the field \xfe has a name that is no UTF-8"
            in fault(converter(rest="others", rest_bytes=option), named)[1]
        )


def test_a_row_with_a_rest_becomes_its_hash_again() -> None:
    tables = Tables()
    tables.rows = ((b"Ada", b'{"age": 36, "city": "Rome", "gone": null, "name": "x", "tags": ["a"]}'),)
    reader = RowReader(function(rest="others"), cast("Connector", tables))
    expected = {b"name": b"Ada", b"age": b"36", b"city": b"Rome", b"tags": b'["a"]'}
    assert reader.read([b"person:1"]) == {b"person:1": expected}
    for document in (None, b"[1]", b"nonsense"):
        tables.rows = ((b"Ada", document),)
        assert reader.read([b"person:1"]) == {b"person:1": {b"name": b"Ada"}}


# -- Constants and computed columns ------------------------------------------------------------------------


def test_constants_and_computed_columns() -> None:
    by = converter(
        constants={"tenant": "eu", "level": "3"},
        computed={"full": "{name} {{{last}}} {id} {@key} {@deployment} {@shard} {@epoch}", "ms": "{@time}"},
    )
    entry = change("u", "person:7", name="Ada", last="L", epoch="1f")._replace(entry_id=b"1700000000123-4")
    assert row(by, entry) == {
        "id": 7,
        "name": "Ada",
        "tenant": "eu",
        "level": 3,
        "full": "Ada {L} 7 person:7 people 0123456789ab 31",
        "ms": 1_700_000_000_123,
    }
    assert row(by, change("u", name="Ada"))["full"] is None


def test_the_time_of_a_change_in_what_a_column_can_hold() -> None:
    by = converter(computed={"at": "{@time}", "whole_at": "{@time}", "full": "{@time} {@id}"})
    found = row(by, change("u", name="Ada")._replace(entry_id=b"1700000000123-4"))
    assert str(found["at"]) == "2023-11-14 22:13:20.123000"
    assert str(found["whole_at"]) == "2023-11-14 22:13:20"
    assert found["full"] == "2023-11-14T22:13:20.123Z 1700000000123-4"
    with pytest.raises(SchemaMismatch, match="can't hold the time of a change"):
        converter(computed={"level": "{@time}"})


def test_what_does_not_fit() -> None:
    with pytest.raises(SchemaMismatch, match="the constant for the column level of persons does not fit it"):
        converter(constants={"level": "many"})
    by = converter(computed={"tenant": "{name} {last}"})
    column, reason = fault(by, change("u", name="Ada", last="Lovelace"))
    assert (column, reason) == ("tenant", "column tenant: the text has 12 characters, 8 fit")


def test_behind_a_transform_they_see_what_it_returned() -> None:
    def transform(seen: SeenChange) -> SeenChange:
        seen.fields.update(name="Bo", age=36)
        seen.primary_key["id"] = "8"
        return seen

    by = converter(transform, rest="others", computed={"full": "{name} {age} {id}"})
    found = row(by, change("u", name="Ada"))
    assert (found["id"], found["full"], found["others"]) == (8, "Bo 36 8", '{"age":36}')


def test_the_shard_on_both_hosts() -> None:
    assert Origin("people", STREAM).shard == "0123456789ab"
    for kind in ("lane", "through"):
        name = f"gearsync:{kind}:people:reporting:{{0}}:0123456789ab"
        assert Origin("people", name).shard == "0123456789ab"


# -- Histories ---------------------------------------------------------------------------------------------


def test_each_change_is_a_row_with_its_place_and_its_image() -> None:
    by = converter(table="history", history=True, rest="others", constants={"tenant": "eu"})
    key = {
        "change_lane": STREAM,
        "change_epoch": 31,
        "change_ms": 1_700_000_000_123,
        "change_seq": 4,
        "id": 7,
    }
    found = row(by, change("u", "person:7", epoch="1f", age="36")._replace(entry_id=b"1700000000123-4"))
    assert {name: found[name] for name in key} == key
    assert str(found["changed_at"]) == "2023-11-14 22:13:20.123000"
    assert (found["change_op"], found["name"], found["others"]) == ("write", None, '{"age":"36"}')
    for op, word in (("d", "delete"), ("x", "expire"), ("v", "evict"), ("t", "delete")):
        found = row(by, change(op))
        assert (found["change_op"], found["name"], found["others"], found["tenant"]) == (
            word,
            None,
            None,
            "eu",
        )


def test_a_history_leaves_nothing_out() -> None:
    entries = [change("u", name="a"), change("u", name="b"), change("d"), change("v"), change("u", name="c")]
    batch = Batch(entries, [converter(table="history", history=True)])
    written = [dict(zip(each.columns, each.values)) for each in batch.rows]
    # Evictions are kept from SQL unless the policy says otherwise.
    assert [(each["change_op"], each["name"]) for each in written] == [
        ("write", "a"),
        ("write", "b"),
        ("delete", None),
        ("write", "c"),
    ]
    assert len({each.key for each in batch.rows}) == 4
    assert [batch.earlier(each) for each in batch.rows] == [[]] * 4


def test_a_history_of_what_a_transform_returns() -> None:
    def transform(seen: SeenChange) -> SeenChange:
        seen.op = "delete" if seen.fields.get("name") == "gone" else seen.op
        return seen

    by = converter(transform, table="history", history=True)
    assert row(by, change("u", name="Ada"))["change_op"] == "write"
    assert row(by, change("u", name="gone"))["change_op"] == "delete"


def test_the_table_of_a_history_must_tell_changes_apart() -> None:
    with pytest.raises(SchemaMismatch, match=r"must be \(change_lane, change_epoch, change_ms, change_seq\)"):
        converter(history=True)
    with pytest.raises(SchemaMismatch, match="its rows are no hashes"):
        RowReader(function(table="history", history=True), cast("Connector", Tables()))
