"""A recipe of rgsync with our connector, as rgsync calls it: streams, write-through, retries, refusals."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from connectors import SchemaMismatch, Target, Unavailable
from connectors.rgsync import RgsyncConnector, RowsRefused
from tests.servers import run_sql

STREAM = "_persons-stream-0b9c4c3e-5f53-4c6c-b6f5-2d2b8d7f1c55-{06S}"
PERSONS = """CREATE TABLE persons (person_id INT PRIMARY KEY, first VARCHAR(20), age INT NOT NULL,
 seen INT DEFAULT 5, CHECK (age <> 13))"""


class Gears:
    """What RedisGears has built in, as far as the adapter uses it."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.lines: list[str] = []

    def getMyHashTag(self) -> str:
        return "06S"

    def executeCommand(self, *words: str) -> str:
        self.commands.append(words)
        return "1-0"

    def log(self, message: str, level: str = "notice") -> None:
        self.lines.append(f"{level}: {message}")

    def letters(self) -> list[dict[str, str]]:
        """Return the dead letters with the name of their stream."""
        return [
            {"stream": words[1], **dict(zip(words[3::2], words[4::2]))}
            for words in self.commands
            if words[0] == "XADD"
        ]


@pytest.fixture
def gears(monkeypatch: pytest.MonkeyPatch) -> Gears:
    """A RedisGears around the connector."""
    made = Gears()
    module = types.ModuleType("redisgears")
    module.__dict__.update(getMyHashTag=made.getMyHashTag, executeCommand=made.executeCommand, log=made.log)
    monkeypatch.setitem(sys.modules, "redisgears", module)
    return made


class Recipe:
    """Calls the connector as rgsync's two kinds of registration do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connector = RgsyncConnector(Target("env:RGSYNC_TEST_URL"), "persons", "person_id")
        self.ms = 1000

    def record(self, key: str, operation: str = "=", **columns: Any) -> dict[str, Any]:
        self.ms += 1
        value = {"person_id": key, "#": operation, **columns}
        return {"key": STREAM, "id": f"{self.ms}-0", "value": value}

    def behind(self, *records: dict[str, Any]) -> None:
        self.connector.WriteData(records)

    def through(self, key: str, operation: str = "=", **columns: Any) -> None:
        self.connector.WriteData([{"value": {"person_id": key, "#": operation, **columns}}])

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in run_sql(self.url, "SELECT * FROM persons ORDER BY person_id")]

    def checkpoint(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in run_sql(self.url, "SELECT ms, seq, applied FROM gearsync_checkpoint")]


@pytest.fixture
def recipe(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """A connector on a fresh table persons."""
    monkeypatch.setenv("RGSYNC_TEST_URL", database_url)
    run_sql(database_url, PERSONS)
    made = Recipe(database_url)
    yield made
    made.connector.close()


# -- What users of rgsync's connectors see ----------------------------------------------------------------


def test_upserts_and_deletes_in_one_batch(recipe: Recipe) -> None:
    recipe.behind(recipe.record("1", first="Ada", age="36"), recipe.record("2", first="Alan", age="41"))
    recipe.behind(
        recipe.record("2", "~"),
        recipe.record("3", first="Grace", age="85"),
        recipe.record("1", first="Ada", age="37"),
        recipe.record("4", "~"),
    )
    assert recipe.rows() == [(1, "Ada", 37, 5), (3, "Grace", 85, 5)]


def test_the_same_key_again_and_again_in_one_batch(recipe: Recipe) -> None:
    recipe.behind(
        recipe.record("1", first="a", age="1"),
        recipe.record("1", "~"),
        recipe.record("1", first="b", age="2"),
        recipe.record("2", first="x", age="1"),
        recipe.record("1", first="c", age="3"),
        recipe.record("2", "~"),
    )
    assert recipe.rows() == [(1, "c", 3, 5)]


def test_columns_that_are_not_mapped_stay_until_the_row_is_deleted(recipe: Recipe) -> None:
    recipe.behind(recipe.record("1", first="a", age="1"))
    run_sql(recipe.url, "UPDATE persons SET seen = 9")
    recipe.behind(recipe.record("1", first="b", age="2"))
    assert recipe.rows() == [(1, "b", 2, 9)]
    recipe.behind(recipe.record("1", "~"), recipe.record("1", first="c", age="3"))
    assert recipe.rows() == [(1, "c", 3, 5)]


def test_an_empty_batch_is_no_error(recipe: Recipe) -> None:
    recipe.behind()
    assert recipe.rows() == []


def test_write_through(recipe: Recipe) -> None:
    recipe.through("1", first="Ada", age="36")
    recipe.through("2", first="Alan", age="41")
    recipe.through("2", "~")
    assert recipe.rows() == [(1, "Ada", 36, 5)]


# -- Refused rows -------------------------------------------------------------------------------------------


def test_bad_rows_among_good_ones_become_dead_letters(recipe: Recipe, gears: Gears) -> None:
    recipe.behind(
        recipe.record("1", first="Ada", age="36"),
        recipe.record("2", first="Alan", age="unknown"),
        recipe.record("3", first="Eve", age="13"),
        recipe.record("4", first="Grace", age="85"),
    )
    assert recipe.rows() == [(1, "Ada", 36, 5), (4, "Grace", 85, 5)]
    assert recipe.checkpoint() == [(1004, 0, 2)]
    unfit, refused = gears.letters()
    assert (unfit["change"], unfit["column"], unfit["op"]) == ("1002-0", "age", "u")
    assert unfit["reason"] == "column age: the value is no whole number written in digits"
    assert json.loads(unfit["image"]) == {"person_id": "2", "first": "Alan", "age": "unknown"}
    assert (refused["change"], refused["table"]) == ("1003-0", "persons")
    assert {each["stream"] for each in gears.letters()} == {"gearsync:{06S}:dead:rgsync:persons"}
    assert "warning: one row is refused" in gears.lines[0]


def test_when_the_last_state_of_a_row_is_refused_the_one_before_arrives(recipe: Recipe, gears: Gears) -> None:
    recipe.behind(recipe.record("1", first="a", age="1"), recipe.record("1", first="b", age="13"))
    assert recipe.rows() == [(1, "a", 1, 5)]
    assert [each["change"] for each in gears.letters()] == ["1002-0"]


def test_without_redisgears_a_refused_row_stops_its_batch(recipe: Recipe) -> None:
    good, unfit = recipe.record("1", first="a", age="1"), recipe.record("2", first="b", age="x")
    with pytest.raises(RowsRefused, match="no RedisGears here to keep them: column age"):
        recipe.behind(good, unfit)
    with pytest.raises(RowsRefused, match="no RedisGears here to keep them"):
        recipe.behind(good, recipe.record("2", first="b", age="13"))
    assert recipe.rows() == []


@pytest.mark.parametrize("age", ["unknown", "13"])
def test_write_through_says_why_it_failed(recipe: Recipe, gears: Gears, age: str) -> None:
    with pytest.raises(RowsRefused, match="one row is refused, so nothing is written: "):
        recipe.through("1", first="Ada", age=age)
    assert recipe.rows() == []
    assert gears.letters() == []
    recipe.through("1", first="Ada", age="14")
    assert recipe.rows() == [(1, "Ada", 14, 5)]


def test_dead_letters_are_stored_once_however_often_the_batch_fails(
    recipe: Recipe, gears: Gears, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = recipe.connector._connector()

    def down(*arguments: Any) -> None:
        raise Unavailable("the database is down")

    batch = [recipe.record("1", first="a", age="x"), recipe.record("2", first="b", age="2")]
    with monkeypatch.context() as patched:
        patched.setattr(connector, "apply", down)
        for _ in range(3):
            with pytest.raises(Unavailable):
                recipe.behind(*batch)
    recipe.behind(*batch)
    assert [each["change"] for each in gears.letters()] == ["1001-0"]
    assert recipe.rows() == [(2, "b", 2, 5)]


# -- Once, and after failures -------------------------------------------------------------------------------


def test_what_is_handed_over_again_is_skipped(recipe: Recipe) -> None:
    first, second = recipe.record("1", first="a", age="1"), recipe.record("2", first="b", age="2")
    recipe.behind(first, second)
    run_sql(recipe.url, "DELETE FROM persons")
    recipe.behind(first)
    recipe.behind(second, recipe.record("3", first="c", age="3"))
    assert recipe.rows() == [(3, "c", 3, 5)]
    assert recipe.checkpoint() == [(1003, 0, 3)]


def test_another_shard_that_takes_the_stream_over_goes_on_where_it_ended(recipe: Recipe) -> None:
    first = recipe.record("1", first="a", age="1")
    recipe.behind(first)
    run_sql(recipe.url, "DELETE FROM persons")
    promoted = RgsyncConnector(recipe.connector.target, "persons", "person_id")
    promoted.WriteData([first, recipe.record("2", first="b", age="2")])
    assert recipe.rows() == [(2, "b", 2, 5)]
    promoted.close()


def test_ids_are_compared_as_numbers(recipe: Recipe) -> None:
    value = {"person_id": "1", "#": "=", "first": "a", "age": "1"}
    for number in ("999-0", "1000-9", "1000-10"):
        recipe.behind({"key": STREAM, "id": number, "value": {**value, "age": number.split("-")[1]}})
    assert recipe.rows() == [(1, "a", 10, 5)]


def test_two_streams_have_positions_of_their_own(recipe: Recipe) -> None:
    recipe.behind(recipe.record("1", first="a", age="1"))
    other = {**recipe.record("2", first="b", age="2"), "key": STREAM.replace("06S", "1A2"), "id": "5-0"}
    recipe.behind(other)
    assert recipe.rows() == [(1, "a", 1, 5), (2, "b", 2, 5)]
    assert len(recipe.checkpoint()) == 2


def test_a_column_that_is_missing_fails_until_it_is_added(recipe: Recipe) -> None:
    batch = [recipe.record("1", first="a", age="1", last="z")]
    with pytest.raises(SchemaMismatch, match="the table persons has no column last"):
        recipe.behind(*batch)
    run_sql(recipe.url, "ALTER TABLE persons ADD COLUMN last VARCHAR(20)")
    recipe.behind(*batch)
    assert recipe.rows() == [(1, "a", 1, 5, "z")]


def test_a_connector_that_lost_its_claim_claims_again(recipe: Recipe) -> None:
    recipe.behind(recipe.record("1", first="a", age="1"))
    run_sql(recipe.url, "UPDATE gearsync_checkpoint SET generation = generation + 1")
    batch = [recipe.record("2", first="b", age="2")]
    with pytest.raises(Exception, match="another worker has claimed"):
        recipe.behind(*batch)
    recipe.behind(*batch)
    assert len(recipe.rows()) == 2
