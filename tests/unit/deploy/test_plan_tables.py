"""What is said when the tables, here in SQLite, do not fit the mappings."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors import Target
from deploy.checks import tables
from deploy.checks.findings import Findings
from deploy.rollout import plan
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import build

SCHEMA = """ CREATE TABLE persons (person_id TEXT PRIMARY KEY, first TEXT, last TEXT, age INTEGER); CREATE
TABLE strict_persons (person_id TEXT PRIMARY KEY, first TEXT NOT NULL, kind TEXT NOT NULL DEFAULT 'x',
                             born TEXT NOT NULL);
CREATE TABLE pets (owner TEXT, pet_id INTEGER, name TEXT, PRIMARY KEY (owner, pet_id));
CREATE TABLE loose (id TEXT, name TEXT);
CREATE TABLE prices (id INTEGER PRIMARY KEY, net INTEGER, gross INTEGER AS (net * 2) STORED);
CREATE TABLE names (name TEXT COLLATE NOCASE PRIMARY KEY, age INTEGER);
"""


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "reporting.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return f"sqlite:///{path}"


def findings_of(url: str, transform: str | None = None, **changes: Any) -> Findings:
    written = {"keys": "person:{person_id}", "table": "persons", "columns": ["first"], **changes}
    mapping, problems = build(written, transform is not None)
    assert mapping is not None, problems
    function = Function("people", mapping, "reporting", transform, "functions.py:3")
    findings = Findings()
    deployment = Deployment("d", 1, [function], {"reporting": Target(url, name="reporting")})
    tables.check(deployment, "functions.py", findings)
    return findings


def test_a_mapping_that_fits_has_no_findings(database: str) -> None:
    findings = findings_of(database)
    assert (findings.mistakes, findings.warnings) == ([], [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"table": "person"}, ["table", "person", "persons"]),
        ({"table": "loose", "keys": "l:{id}", "columns": ["name"]}, ["table", "primary key"]),
        ({"columns": {"f": "frist"}}, ["columns", "no column frist (for the field f); did you mean first?"]),
        ({"columns": ["zzzzz"]}, ["columns", "no column zzzzz"]),
        ({"keys": "person:{persn_id}"}, ["keys", "no column persn_id; did you mean person_id?"]),
        (
            {"keys": "person:{last}"},
            ["keys", "last is not in the primary key of persons, which is (person_id)"],
        ),
        (
            {"table": "pets", "keys": "pet:{pet_id}", "columns": ["name"]},
            ["keys", "primary key of pets is (owner, pet_id), and the key template has no {owner}"],
        ),
        (
            {"table": "prices", "keys": "p:{id}", "columns": ["net", "gross"]},
            ["columns", "the database computes the column gross of prices, and takes no value for it"],
        ),
        ({"table": "strict_persons"}, ["columns", "born of strict_persons is NOT NULL without a default"]),
    ],
)
def test_what_does_not_fit_is_named(database: str, changes: dict[str, Any], expected: list[str]) -> None:
    mistake = findings_of(database, **changes).mistakes[0]
    option, *words = expected
    assert (mistake.place, mistake.function, mistake.option) == ("functions.py:3", "people", option)
    for word in words:
        assert word in mistake.message


def test_all_of_a_mapping_is_looked_at(database: str) -> None:
    findings = findings_of(database, table="pets", keys="{owner}:{pt_id}", columns=["nam"])
    assert [mistake.option for mistake in findings.mistakes] == ["keys", "keys", "columns"]


def test_keys_that_share_a_row_are_a_warning(database: str) -> None:
    [warning] = findings_of(database, table="names", keys="n:{name}", columns=["age"]).warnings
    assert "name has the collation NOCASE" in warning.message and "share one row" in warning.message


def test_a_hash_that_would_become_a_dead_letter_is_a_warning(database: str) -> None:
    changes: dict[str, Any] = {"table": "strict_persons", "columns": ["first", "born", "kind"]}
    [warning] = findings_of(database, **changes).warnings
    assert "a hash without the fields first, born becomes a dead letter" in warning.message
    assert findings_of(database, transform="f", **changes).warnings == []


def test_a_reference_that_can_not_be_resolved_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_URL", raising=False)
    [mistake] = findings_of("env:NO_SUCH_URL").mistakes
    assert mistake.where() == "functions.py, target reporting"
    assert "NO_SUCH_URL" in mistake.message and "where Redis runs" in mistake.message


@pytest.mark.parametrize(("url", "words"), [("sqlite:///here.db", "is relative"), ("sqlite://", "in memory")])
def test_sqlite_files_that_the_worker_would_not_find(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    monkeypatch.setenv("LITE_URL", url)
    [mistake] = findings_of("env:LITE_URL").mistakes
    assert words in mistake.message


def test_a_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "typo.db"
    monkeypatch.setenv("LITE_URL", f"sqlite:///{path}")
    [mistake] = findings_of("env:LITE_URL").mistakes
    assert f"there is no file {path}" in mistake.message
    assert not path.exists()


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOWN_URL", "postgresql://me:hunter2@127.0.0.1:1/x")
    [mistake] = findings_of("env:DOWN_URL").mistakes
    assert mistake.where() == "functions.py, target reporting"
    assert "can't be asked" in mistake.message
    assert "hunter2" not in str(mistake)


def test_offline_says_what_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "functions.py"
    path.write_text(
        "from gears import WriteBehind\nfrom connectors import Target\n"
        'WriteBehind("{id}", "t", ["a"], Target("env:NO_SUCH_URL", name="reporting"))\n'
    )
    made = plan.make(str(path), offline=True)
    assert made.mistakes == []
    assert made.findings.not_checked == [
        "The tables were not looked at (--offline).",
        "Redis was not asked (no --redis).",
    ]
    [warning] = made.findings.warnings
    assert warning.option == "keys" and "any prefix" in warning.message


def test_an_unreachable_redis_is_a_mistake_beside_the_others(tmp_path: Path) -> None:
    path = tmp_path / "functions.py"
    path.write_text(
        "from gears import WriteBehind, deployment_settings\nfrom connectors import Target\n"
        "deployment_settings(requirements=['a b'])\n"
        'WriteBehind("x:{id}", "t", ["a"], Target("env:NO_SUCH_URL", name="reporting"))\n'
    )
    made = plan.make(str(path), offline=True, url="redis://127.0.0.1:1")
    assert [mistake.option or mistake.place for mistake in made.mistakes] == ["requirements", "--redis"]
