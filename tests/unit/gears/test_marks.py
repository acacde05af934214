"""Rows that are marked as deleted: the same however the changes fall into batches, in a database itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Connector, connect
from gears.applying.change import Change
from gears.applying.conversion import Converter
from gears.applying.images import RowReader
from gears.applying.pipeline import Batch
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from tests.servers import run_sql
from tests.unit.gears.batches import change

TABLE = (
    "CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT DEFAULT 'nobody', age INTEGER, "
    "note TEXT NOT NULL DEFAULT 'empty', gone INTEGER)"
)
OPTIONS: dict[str, Any] = {
    "keys": "person:{id}",
    "table": "persons",
    "columns": ["name", "age", "note"],
    "deleted_at": "gone",
}
COMMANDS = st.one_of(
    st.tuples(
        st.just("hset"),
        st.sampled_from("12"),
        st.dictionaries(st.sampled_from(["name", "age", "note"]), st.sampled_from("123"), min_size=1),
    ),
    st.tuples(st.just("hdel"), st.sampled_from("12"), st.sampled_from(["name", "age", "note"])),
    st.tuples(st.sampled_from("dxt"), st.sampled_from("12"), st.none()),
)


class Persons:
    """The table, and the function that marks its rows."""

    def __init__(self, url: str) -> None:
        self.connector: Connector = connect(url)
        mapping, problems = build({**OPTIONS, "on_delete": "mark", "on_expire": "mark"}, False)
        assert mapping is not None, problems
        self.function = Function("persons", mapping, "reporting")
        self.converter = Converter(self.function, None, self.connector)
        self.url = url

    def write(self, *changes: Change) -> None:
        batch = Batch(changes, [self.converter])
        assert batch.faults == []
        self.connector.write(batch.rows, lambda refusals: pytest.fail(str(refusals)), batch.earlier)

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in run_sql(self.url, "SELECT * FROM persons ORDER BY id")]


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("marks")
    made = []
    for name in ("one", "many"):
        url = f"sqlite:///{folder / name}.db"
        run_sql(url, TABLE)
        made.append(Persons(url))
    yield made
    for each in made:
        each.connector.close()


def captured(commands: list[tuple[str, str, Any]]) -> list[Change]:
    """Return the changes that the module writes for commands."""
    hashes: dict[str, dict[str, str]] = {}
    found = []
    for kind, number, argument in commands:
        held, key = hashes.get(number, {}), f"person:{number}"
        if kind == "hset":
            hashes[number] = {**held, **argument}
            found.append(change("u", key, **hashes[number]))
        elif kind == "hdel" and argument in held and len(held) > 1:
            del held[argument]
            found.append(change("r", key, **held))
        elif kind in "dxt" and hashes.pop(number, None) is not None:
            found.append(change(kind, key))
    return found


@settings(max_examples=25)
@given(st.lists(COMMANDS, max_size=14), st.lists(st.integers(1, 6), min_size=14, max_size=14))
def test_batches_make_no_difference(persons: Any, commands: Any, sizes: list[int]) -> None:
    one, many = persons
    for each in persons:
        each.connector.write([], lambda refusals: None, lambda row: ())
        run_sql(each.url, "DELETE FROM persons")
    changes = captured(commands)
    for each in changes:
        one.write(each)
    for size in sizes:
        part, changes = changes[:size], changes[size:]
        if part:
            many.write(*part)
    assert one.rows() == many.rows()


def test_a_mark_and_what_clears_it(persons: Any) -> None:
    subject = persons[0]
    run_sql(subject.url, "DELETE FROM persons")
    subject.write(change("u", name="Ada", age="36", note="x")._replace(entry_id=b"1000-0"))
    subject.write(change("d")._replace(entry_id=b"2000-0"), change("d", "person:2"))
    subject.write(change("d")._replace(entry_id=b"3000-0"))
    assert subject.rows() == [(1, "Ada", 36, "x", 2000)]
    reader = RowReader(subject.function, subject.connector)
    assert reader.read([b"person:1"]) == {b"person:1": None}
    assert (reader.scan(None, "", 10), reader.count("")) == ([], 0)
    # What the hash does not have is not that of its earlier life.
    subject.write(change("u", age="7")._replace(entry_id=b"4000-0"))
    assert subject.rows() == [(1, "nobody", 7, "empty", None)]
    assert reader.read([b"person:1"]) == {b"person:1": {b"name": b"nobody", b"age": b"7", b"note": b"empty"}}
    assert reader.count("") == 1
