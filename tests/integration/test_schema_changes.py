"""The table changes under way: what fits arrives, what does not waits or is a dead letter."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.deploying import eventually, gearsync, rows
from tests.integration.system import System
from tests.servers import run_sql

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
WriteBehind(keys="person:{id}", table="persons", columns=["name", "age"], target=first)
"""
BEFORE = "id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER"
PEOPLE = 60


class Writer:
    """A client that writes all the time; in the end each person has the last age that was written."""

    def __init__(self, client: redis.Redis) -> None:
        self.ages: dict[int, int] = {}
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.001):
            number += 1
            person = number % PEOPLE
            self._client.hset(f"person:{person}", mapping={"name": name_of(person), "age": number})
            self.ages[person] = number

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write until the block ends, and all people once before it begins."""
        self._thread.start()
        try:
            eventually(lambda: len(self.ages) == PEOPLE)
            yield
        finally:
            self._ended.set()
            self._thread.join()


def name_of(person: int) -> str:
    """Half of the names have 4 characters at most, the others 20 at least."""
    return f"n{person}" if person % 2 else f"a name as long as this {person}"


def change_table(url: str, columns: str, copied: str) -> None:
    """Make another table of persons with what was in ``copied``, in the way that all databases have."""
    run_sql(url, f"CREATE TABLE wanted ({columns})")
    run_sql(url, "ALTER TABLE persons RENAME TO former")
    run_sql(url, f"INSERT INTO wanted ({copied}) SELECT {copied} FROM former")
    run_sql(url, "ALTER TABLE wanted RENAME TO persons")
    run_sql(url, "DROP TABLE former")


@pytest.fixture
def system(host: str, database_url: str, tmp_path: Path) -> Iterator[System]:
    run_sql(database_url, f"CREATE TABLE persons ({BEFORE})")
    found = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host)
    with found:
        yield found


def ages(url: str) -> dict[int, int]:
    return {row[0]: row[1] for row in rows(url, "SELECT id, age FROM persons")}


def test_columns_are_added_and_widened(system: System, database_url: str) -> None:
    """Nobody notices: no change waits for good and none is refused."""
    writer = Writer(system.client)
    with writer.writing():
        wider = "id INTEGER PRIMARY KEY, city VARCHAR(9) DEFAULT 'Oslo', name TEXT, age BIGINT"
        change_table(database_url, wider, "id, name, age")
    system.wait()
    assert ages(database_url) == writer.ages
    assert rows(database_url, "SELECT DISTINCT city FROM persons") == [("Oslo",)]
    assert system.letters() == []


def test_a_column_is_dropped_and_comes_back(system: System, database_url: str) -> None:
    """All waits meanwhile, and the worker says for what."""
    writer = Writer(system.client)
    with writer.writing():
        change_table(database_url, "id INTEGER PRIMARY KEY, name VARCHAR(40)", "id, name")
        system.until_waiting("first", "age")
        change_table(database_url, BEFORE, "id, name")
        eventually(lambda: system.target("first")["state"] == "running")
    system.wait()
    assert {person: age for person, age in ages(database_url).items() if age} == writer.ages
    assert system.letters() == []


def test_a_column_is_narrowed(system: System, database_url: str) -> None:
    """What fits goes on; each that does not is a dead letter that names the column, and can be mended."""
    system.client.hset("person:1000", mapping={"name": "keep", "age": 1})
    system.wait()
    narrow = "id INTEGER PRIMARY KEY, name VARCHAR(4) CHECK (LENGTH(name) <= 4), age INTEGER"
    change_table(database_url, narrow, "id, name, age")
    writer = Writer(system.client)
    with writer.writing():
        pass
    system.wait()
    fitting = {person: age for person, age in writer.ages.items() if person % 2}
    assert ages(database_url) == {**fitting, 1000: 1}
    letters = system.letters()
    assert {letter["key"] for letter in letters} == {
        f"person:{person}" for person in writer.ages if person % 2 == 0
    }
    assert {letter["table"] for letter in letters} == {"persons"}
    # A worker that has just looked at the table does not look again at once; the column may be missing then.
    assert {letter["column"] for letter in letters} <= {"name", ""}

    def the_column_is_named() -> bool:
        system.client.hset("person:0", "name", name_of(0))
        system.wait()
        return ("person:0", "name") in {(letter["key"], letter["column"]) for letter in system.letters()}

    eventually(the_column_is_named)


def test_a_column_that_must_have_a_value_is_added(system: System, database_url: str) -> None:
    """Each change is a dead letter that names it, until somebody gives it a default."""
    demanding = f"{BEFORE}, city VARCHAR(9) NOT NULL"
    run_sql(database_url, "DROP TABLE persons")
    run_sql(database_url, f"CREATE TABLE persons ({demanding})")
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 1, 'Rome')")
    for person in (1, 2):
        system.client.hset(f"person:{person}", mapping={"name": "Eve", "age": 3})
    system.wait()
    letters = system.letters()
    assert [letter["key"] for letter in letters] == ["person:1", "person:2"]
    # If the worker had read the table before, only the database's own sentence may have the name.
    assert all("city" in (letter["column"], *re.findall(r"\w+", letter["reason"])) for letter in letters)
    assert ages(database_url) == {1: 1}
    change_table(database_url, f"{BEFORE}, city VARCHAR(9) DEFAULT 'Oslo' NOT NULL", "id, name, age, city")
    retried = gearsync("deadletters", "retry", "--all", "--redis", system.server.url)
    assert retried.returncode == 0, retried.stderr
    system.wait()
    found = rows(database_url, "SELECT id, age, city FROM persons ORDER BY id")
    assert (found, system.letters()) == ([(1, 3, "Rome"), (2, 3, "Oslo")], [])
