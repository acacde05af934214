"""From JSON documents to rows, without Redis and without a database."""

from __future__ import annotations

from typing import Any, cast

import pytest
import sqlalchemy as sa

from connectors import Connector
from connectors.tables import Column, Table
from connectors.values import types
from gears.applying.change import Change
from gears.applying.converters import converter_for
from gears.applying.pipeline import Batch
from gears.declaring.functions import Change as SeenChange
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from tests.unit.gears.batches import _ids

TEXT = types.text(20)
TABLE = Table(
    "docs",
    {
        "id": Column("id", sa.Integer(), "INTEGER", types.integer(0, 99), nullable=False, primary_key=True),
        "name": Column("name", sa.String(20), "VARCHAR(20)", TEXT),
        "price": Column("price", sa.Numeric(30, 10), "NUMERIC", types.numeric(40, 10)),
        "good": Column("good", sa.Boolean(), "BOOLEAN", types.boolean()),
        "rest": Column("rest", sa.JSON(), "JSON", types.json_text()),
    },
    ("id",),
    [],
)
COLUMNS = {"$.name": "name", "$.price": "price", "$.good": "good", "$.rest": "rest"}


class Tables:
    def table(self, name: str) -> Table:
        return TABLE


def batch(*changes: Change, transform: Any = None, columns: dict[str, str] = COLUMNS) -> Batch:
    options = {"keys": "doc:{id}", "table": "docs", "columns": columns, "type": "json"}
    mapping, problems = build(options, transform is not None)
    assert mapping is not None, problems
    function = Function("docs", mapping, "reporting", "transform" if transform else None)
    return Batch(changes, [converter_for(function, transform, cast("Connector", Tables()))])


def doc(text: str | bytes, op: str = "r", key: str = "doc:1") -> Change:
    value = text if isinstance(text, bytes) else text.encode()
    return Change(b"%d-0" % next(_ids), key.encode(), f"{op}1".encode(), (b"$",), [value])


def gone(op: str) -> Change:
    return Change(b"%d-0" % next(_ids), b"doc:1", f"{op}1".encode(), (), [])


def test_paths_become_columns_and_a_missing_one_null() -> None:
    text = '{"name": "Ada", "price": 12345678901234567890.1234567890, "good": false, "rest": {"a": [1.0]}}'
    (row,) = batch(doc(text)).rows
    written = dict(zip(row.columns, row.values))
    assert written.pop("price").as_tuple().digits[-3:] == (8, 9, 0)
    assert written == {"id": 1, "name": "Ada", "good": False, "rest": '{"a":[1.0]}'}
    (row,) = batch(doc('{"name": null, "other": 1}')).rows
    nothing = {"price": None, "good": None, "rest": None}
    assert dict(zip(row.columns, row.values)) == {"id": 1, "name": None, **nothing}
    assert (row.nulls, row.defaults) == ((), ())


@pytest.mark.parametrize(
    ("text", "rest"), [('"x"', '"x"'), ("1.50", "1.50"), ("true", "true"), ("null", None)]
)
def test_a_column_for_documents_gets_json_whatever_it_is(text: str, rest: str | None) -> None:
    (row,) = batch(doc(f'{{"rest": {text}}}')).rows
    assert dict(zip(row.columns, row.values))["rest"] == rest


def test_the_document_itself_is_kept_as_it_was_written() -> None:
    text = '{ "a":1.0, "a" : 2 }'
    (row,) = batch(doc(text), columns={"$": "rest"}).rows
    assert row.values == (1, text)
    # Half of a pair is in no path's value; the text of the whole has it escaped.
    (row,) = batch(doc('"\\ud800"'), columns={"$": "rest"}).rows
    assert row.values == (1, '"\\ud800"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "the key holds no JSON document: Expecting"),
        ("", "the key holds no JSON document"),
        (b'{"name": "\xff"}', "byte 10 is no UTF-8"),
        ('{"name": "\\ud800"}', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": "012345678901234567890"}', "column name: the text has 21 characters, 20 fit"),
        ('{"price": "x"}', "column price: the value is no decimal number"),
    ],
)
def test_what_does_not_fit_is_a_dead_letter_and_the_last_good_state_arrives(
    text: str | bytes, words: str
) -> None:
    bad = doc(text)
    made = batch(doc('{"name": "good"}'), bad)
    ((change, fault),) = made.faults
    assert change is bad
    assert words in fault.reason
    assert [row.values[:2] for row in made.rows] == [(1, "good")]


def test_the_last_document_is_the_whole_state() -> None:
    expected = {"id": 1, "name": "b", "price": None, "good": None, "rest": None}
    for before in (doc('{"name": "a", "good": 1}'), gone("d"), doc("{}", op="n")):
        (row,) = batch(before, doc('{"name": "b"}')).rows
        assert dict(zip(row.columns, row.values)) == expected
    assert [row.kind for row in batch(doc("{}"), gone("x")).rows] == ["delete"]


def test_a_transform_sees_the_paths_and_the_document() -> None:
    seen: list[SeenChange] = []

    def transform(change: SeenChange) -> SeenChange:
        seen.append(change)
        change.fields["$.name"] = change.fields["$.name"].upper()
        return change

    text = '{"name": "ada", "rest": null}'
    made = batch(doc(text), transform=transform)
    assert seen[0].fields == {"$.name": "ADA", "$.rest": None, "$": text}
    assert dict(zip(made.rows[0].columns, made.rows[0].values))["name"] == "ADA"


def test_what_was_captured_as_a_hash_is_a_dead_letter() -> None:
    old = Change(b"%d-0" % next(_ids), b"doc:1", b"u1", (b"name",), [b"Ada"])
    ((_, fault),) = batch(old).faults
    assert "an older version captured this key" in fault.reason
