"""The process that writes a lane to its database for RedisGears, by itself: what it is told and answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gears.declaring import config
from gears.redisgears import frames
from tests.integration.deploying import ROOT, rows, write
from tests.servers import run_sql

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind

print("what a transform prints is no answer")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=Target("env:DB_URL", name="t"))
"""
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(40))"
LANE = "gearsync:lane:functions:t:{0}:abc"
START = "import sys; from gears.redisgears.child import main; main(sys.stdin.buffer)"


class Child:
    """The process, and the pipes to it."""

    def __init__(self, payload: str, url: str) -> None:
        self._payload = payload
        self._environment = {**os.environ, "DB_URL": url, "PYTHONPATH": str(ROOT)}
        self.letters: list[Any] = []
        """The dead letters that it had stored."""
        self.doubled: list[int] = []
        """The epochs above which it wanted another one."""
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        frames.send(self._requests, self._payload, "t")

    def end(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        assert self.process.wait(30) == 0
        self.process.stdout.close()  # type: ignore[union-attr]

    @property
    def _requests(self) -> Any:
        return self.process.stdin

    def send(self, attempt: int, *entries: list[Any], epoch: int = 1, shard: str = "abc.1-a") -> None:
        frames.send(self._requests, attempt, LANE, (epoch, shard), list(entries))

    def answer(self) -> str:
        """Return why the oldest batch is not committed; take its dead letters."""
        while True:
            kind, *content = frames.receive(self.process.stdout)  # type: ignore[arg-type]
            if kind == "done":
                return str(content[0])
            if kind == "bury":
                self.letters += content[1]
                frames.send(self._requests, (len(content[1]), [each[0] for each in content[1]]), "")
            if kind == "doubled":
                self.doubled += content


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'target.db'}"


@pytest.fixture
def child(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setenv("DB_URL", url)
    made = Child(config.load(write(tmp_path, FUNCTIONS)).to_payload(), url)
    yield made
    made.end()


def entry(number: int, name: str, key: str = "") -> list[Any]:
    return [f"{number}-0", ["k", key or f"person:{number}", "m", "u1", "name", name]]


def names(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT id, name FROM persons ORDER BY id")


def test_nothing_passes_a_batch_that_failed(child: Child, url: str) -> None:
    """What was sent before the failure was known would move the position over it."""
    child.send(1, entry(1, "Ada"))
    child.send(1, entry(2, "Eve"))
    first, second = child.answer(), child.answer()
    assert "persons" in first and second == first
    run_sql(url, PERSONS)
    child.send(1, entry(2, "Eve"))
    assert child.answer() == first
    child.send(2, entry(1, "Ada"))
    child.send(2, entry(2, "Eve"))
    assert (child.answer(), child.answer()) == ("", "")
    assert names(url) == [(1, "Ada"), (2, "Eve")]


def test_what_is_in_sql_is_skipped_and_a_higher_epoch_begins_anew(child: Child, url: str) -> None:
    run_sql(url, PERSONS)
    child.send(1, entry(5, "Ada"))
    assert child.answer() == ""
    run_sql(url, "UPDATE persons SET name = 'by hand'")
    child.send(2, entry(5, "Ada"), entry(6, "Eve"), epoch=2)
    assert child.answer() == ""
    assert names(url) == [(5, "by hand"), (6, "Eve")]
    late = ["1-0", ["k", "person:7", "m", "u2", "name", "an id that went back"]]
    child.send(3, late, epoch=2)
    assert child.answer() == ""
    assert names(url)[-1] == (7, "an id that went back")
    child.send(4, entry(8, "an old primary"), epoch=1)
    assert child.answer() != ""
    assert len(names(url)) == 3


def test_a_life_of_the_same_epoch_begins_anew_whatever_its_ids_are(child: Child, url: str) -> None:
    run_sql(url, PERSONS)
    child.send(1, entry(5, "Ada"))
    assert (child.answer(), child.doubled) == ("", [])
    child.end()
    child.start()
    child.send(1, entry(2, "Eve"), shard="abc.1-b")
    assert (child.answer(), child.doubled) == ("", [1])
    child.send(2, entry(2, "Eve"), entry(3, "Joe"), shard="abc.1-b")
    assert (child.answer(), child.doubled) == ("", [1])
    assert names(url) == [(2, "Eve"), (3, "Joe"), (5, "Ada")]


def test_names_that_are_no_text_and_entries_that_are_no_changes(child: Child, url: str) -> None:
    run_sql(url, PERSONS)
    odd = ["1-0", ["k", "person:1", "l", "u1", "name", "Ada", "\xff", b"\xfe"]]
    child.send(1, odd, ["2-0", ["hello", "world"]], entry(3, "x", "person:x"))
    assert child.answer() == ""
    assert names(url) == [(1, "Ada")]
    assert sorted(each[0] for each in child.letters) == ["2-0", "3-0"]


def test_letters_of_what_is_in_sql_are_stored_again_with_the_ids_that_they_had(
    child: Child, url: str
) -> None:
    """Redis' process knows whether they are there: it may have forgotten them in a promotion."""
    run_sql(url, PERSONS)
    bad = entry(1, "x", "person:x")
    child.send(1, bad, entry(2, "Ada"))
    assert child.answer() == ""
    [first] = child.letters
    child.send(2, bad, entry(2, "Ada"), entry(3, "Eve"), epoch=2)
    assert child.answer() == ""
    again = child.letters[1]
    assert (first[3], again[3]) == ("", "1-0")
    assert again[:3] == first[:3]
    assert len(child.letters) == 2 and names(url) == [(2, "Ada"), (3, "Eve")]
