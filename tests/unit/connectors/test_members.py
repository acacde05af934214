"""All rows of a key are replaced, and no more of them is written than has to be."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from connectors import Refusal, RowOp, Target, connect


class Database:
    """A SQLite database with a table of lists, whose items are unique, that counts what is written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "target.db"
        self.run(
            "CREATE TABLE lists (place INTEGER, id INTEGER, item TEXT, note TEXT DEFAULT 'new', "
            "PRIMARY KEY (id, place), UNIQUE (id, item))"
        )
        self.run("CREATE TABLE log (what TEXT)")
        for event in ("INSERT", "UPDATE", "DELETE"):
            then = f"BEGIN INSERT INTO log VALUES ('{event}'); END"
            self.run(f"CREATE TRIGGER on_{event} AFTER {event} ON lists {then}")
        self.connector = connect(Target(f"sqlite:///{self.path}", name="t").resolve(), None)
        self.refused: list[Refusal] = []

    def run(self, statement: str) -> list[Any]:
        with sqlite3.connect(self.path) as connection:
            return connection.execute(statement).fetchall()

    def write(self, *rows: RowOp) -> None:
        self.connector.write(rows, self.refused.extend, lambda row: [])

    def lists(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for key, item in self.run("SELECT id, item FROM lists ORDER BY id, place"):
            found[key] = found.get(key, "") + item
        return found

    def log(self) -> dict[str, int]:
        found = dict(self.run("SELECT what, count(*) FROM log GROUP BY what"))
        self.run("DELETE FROM log")
        return found


@pytest.fixture
def database(tmp_path: Path) -> Any:
    made = Database(tmp_path)
    yield made
    made.connector.close()


def items(key: int, text: str) -> RowOp:
    rows = tuple((key, index, item) for index, item in enumerate(text))
    return RowOp("lists", "replace", (key,), ("id", "place", "item"), members=rows)


def test_rows_become_those_that_are_wanted(database: Database) -> None:
    database.write(items(1, "abc"), items(2, "x"))
    assert database.lists() == {1: "abc", 2: "x"}
    database.run("UPDATE lists SET note = 'kept'")
    database.log()
    database.write(items(1, "abd"), items(2, "x"), items(3, "a"))
    assert database.lists() == {1: "abd", 2: "x", 3: "a"}
    assert database.log() == {"DELETE": 1, "INSERT": 2}
    assert database.run("SELECT count(*) FROM lists WHERE note = 'kept'") == [(3,)]
    database.write(items(1, ""), items(2, ""))
    assert database.lists() == {3: "a"}
    assert database.refused == []


def test_items_change_their_places_though_they_are_unique(database: Database) -> None:
    database.write(items(1, "abc"))
    database.write(items(1, "cab"))
    assert database.lists() == {1: "cab"}
    assert database.refused == []


def test_a_refused_key_keeps_its_rows_and_stops_no_other(database: Database) -> None:
    database.write(items(1, "ab"), items(2, "c"))
    database.write(items(2, "d"), items(1, "aa"), items(3, "e"))
    assert database.lists() == {1: "ab", 2: "d", 3: "e"}
    assert [each.row.key for each in database.refused] == [(1,)]


def test_later_states_of_a_key_come_after_earlier_ones(database: Database) -> None:
    database.write(items(1, "a"), items(1, "ba"), items(1, "b"))
    assert database.lists() == {1: "b"}
