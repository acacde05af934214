"""What the loader makes of a database's errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import redis

import gears.worker.reading.loader
import gears.worker.reading.misses
from connectors import SchemaMismatch, Target, Unavailable, UnreadableRow
from gears.declaring.declarations import ReadThrough
from gears.declaring.deployment import Deployment
from gears.worker.reading.loader import Database
from gears.worker.reading.misses import Fields, Misses
from gears.worker.shared import Shared


class Rows:
    """Stands for a RowReader and its connector; some keys can't be read."""

    def __init__(self) -> None:
        self.bad: set[bytes] = set()
        self.away = self.mismatch = False
        self.opened = self.closed = 0
        self.asked: list[list[bytes]] = []

    def open(self, _target: str) -> Any:
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def read(self, keys: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes] | None]:
        self.asked.append(list(keys))
        if self.away:
            raise Unavailable("the database is away")
        if self.bad & set(keys):
            raise UnreadableRow("a row of persons can't be read")
        if self.mismatch:
            raise SchemaMismatch("the table persons has no column name")
        return {key: {b"name": key} if key != b"none" else None for key in keys}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    found = Rows()
    monkeypatch.setattr(gears.worker.reading.loader, "RowReader", lambda function, connector: connector)
    return found


@pytest.fixture
def database(rows: Rows) -> Database:
    target = Target("env:DB_URL", name="first")
    declared = ReadThrough(keys="p:{id}", table="persons", columns=["name"], target=target, ttl=7)
    assert declared.function is not None
    deployment = Deployment("people", functions=[declared.function], targets={"first": target})
    return Database(Shared("redis://localhost", deployment, "me", rows.open, {}), "first")


def test_rows_and_their_time_to_live(database: Database, rows: Rows) -> None:
    assert database.read(0, [b"a", b"none"]) == {b"a": {b"name": b"a"}, b"none": None}
    database.read(0, [b"b"])
    assert (rows.opened, rows.asked, database.ttl_ms(0)) == (1, [[b"a", b"none"], [b"b"]], 7000)


def test_a_row_that_can_not_be_read_keeps_no_other_back(database: Database, rows: Rows) -> None:
    rows.bad = {b"3"}
    keys = [b"%d" % number for number in range(8)]
    assert sorted(database.read(0, keys)) == [key for key in keys if key != b"3"]
    assert database.last_problem == "a row of persons can't be read"
    assert len(rows.asked) == 7


def test_a_row_that_can_not_be_read_says_nothing_of_those_after_it(database: Database, rows: Rows) -> None:
    rows.bad = {b"3"}
    for _ in range(3):
        assert database.read(0, [b"3"]) == {}
        assert database.last_problem == "a row of persons can't be read"
        assert database.read(0, [b"4"]) == {b"4": {b"name": b"4"}}
    assert (rows.opened, rows.closed) == (1, 0)


def test_it_connects_before_anybody_asks(database: Database, rows: Rows) -> None:
    database.open()
    assert (rows.opened, rows.asked) == (1, [[]])
    rows.away = True
    with pytest.raises(Unavailable):
        database.open()


def test_when_no_row_can_be_read_the_table_is_looked_at_anew(database: Database, rows: Rows) -> None:
    rows.mismatch = True
    with pytest.raises(SchemaMismatch):
        database.read(0, [b"1", b"2"])
    assert rows.closed == 1


def test_a_database_that_is_away_is_left_alone_for_a_moment(
    database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("gears.worker.reading.loader.time.monotonic", lambda: now)
    rows.away = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            database.read(0, [b"a"])
    assert (len(rows.asked), rows.closed) == (1, 1)
    rows.away = False
    now += gears.worker.reading.loader.AWAY_SECONDS
    assert database.read(0, [b"a"]) == {b"a": {b"name": b"a"}}
    assert rows.opened == 2


def test_large_rows_are_brought_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    class Client:
        def execute_command(self, *words: Any) -> int:
            sent.append(words)
            return int(words[3])

    monkeypatch.setattr(gears.worker.reading.misses, "BYTES", 10)
    misses = Misses(cast(redis.Redis, Client()), "people", 1, "first")
    rows: list[tuple[int, int, Fields | None]] = [(1, 0, {b"name": b"1234567"}), (2, 0, None), (3, 0, None)]
    assert misses.bring([*rows, (4, 0, {b"n": b"1"})]) == 4
    head = ("GEARSYNC.LOADED", "people", "first")
    assert sent == [
        (*head, 1, 1, 0, 1, b"name", b"1234567"),
        (*head, 3, 2, 0, -1, 3, 0, -1, 4, 0, 1, b"n", b"1"),
    ]
