"""What is said when a table lacks the columns that functions add to their rows, and the SQL that is shown."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from connectors import Target, connect
from deploy.checks import clashes, ddl, tables
from deploy.checks.findings import Findings
from deploy.drafts import creation
from deploy.rollout import differences
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping, build
from tests.servers import run_sql

SCHEMA = """
CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE full (id INTEGER PRIMARY KEY, name TEXT, others VARCHAR(20), level INTEGER, at BOOLEAN,
                   label TEXT NOT NULL DEFAULT '', gone DATETIME NOT NULL DEFAULT 0, deleted_at DATETIME);
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "reporting.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return f"sqlite:///{path}"


def mapping(**options: Any) -> Mapping:
    made, problems = build({"keys": "p:{id}", "table": "plain", "columns": ["name"], **options}, False)
    assert made is not None, problems
    return made


def deployment(url: str, *made: Mapping) -> Deployment:
    functions = [Function(f"f{at}", each, "reporting") for at, each in enumerate(made)]
    return Deployment("d", 1, functions, {"reporting": Target(url, name="reporting")})


def findings_of(url: str, **options: Any) -> Findings:
    findings = Findings()
    tables.check(deployment(url, mapping(**options)), "functions.py", findings)
    return findings


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"rest": "others"}, "rest", "no column others; add it: ALTER TABLE plain ADD COLUMN others JSON;"),
        ({"constants": {"nam": 1}}, "constants", "no column nam; did you mean name?"),
        ({"computed": {"at": "{@time}"}}, "computed", "add it: ALTER TABLE plain ADD COLUMN at DATETIME;"),
        ({"on_delete": "mark"}, "deleted_at", "add it: ALTER TABLE plain ADD COLUMN deleted_at DATETIME;"),
        ({"history": True}, "history", "no column change_lane, change_epoch, change_ms, "),
        ({"history": True, "table": "news"}, "table", "make it: CREATE TABLE news ( id TEXT NOT NULL, "),
        ({"table": "full", "constants": {"level": "x"}}, "constants", "does not fit the column level"),
        ({"table": "full", "rest": "level"}, "rest", "the column level (INTEGER) can't hold a JSON object"),
        ({"table": "full", "computed": {"at": "{@time}"}}, "computed", "can't hold the time of a change"),
        (
            {"table": "full", "on_delete": "mark", "deleted_at": "gone"},
            "deleted_at",
            "gone is NOT NULL, and must be NULL",
        ),
    ],
)
def test_what_does_not_fit_is_named(url: str, options: dict[str, Any], option: str, words: str) -> None:
    [mistake] = findings_of(url, **options).mistakes
    assert mistake.option == option
    assert words in mistake.message


def test_warnings(url: str) -> None:
    findings = findings_of(url, table="full", rest="others", computed={"label": "{name} {last}"})
    assert findings.mistakes == []
    assert [each.option for each in findings.warnings] == ["rest", "computed"]


def test_the_statement_for_a_history_makes_a_table_that_fits(url: str) -> None:
    made = mapping(table="news", history=True, rest="others", computed={"label": "{name}", "at": "{@time}"})
    run_sql(url, ddl.create_history(made, "sqlite"))
    findings = Findings()
    tables.check(deployment(url, made), "functions.py", findings)
    assert (findings.mistakes, findings.warnings) == ([], [])
    on_mysql = ddl.create_history(made, "mysql")
    assert "change_lane VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL" in on_mysql
    assert "changed_at DATETIME(3) NOT NULL" in on_mysql
    assert "others JSONB" in ddl.create_history(made, "postgresql")
    assert "PRIMARY KEY (change_lane, change_epoch, change_ms, change_seq)" in on_mysql


def test_a_deletion_has_nothing_for_a_column_that_needs_it(url: str) -> None:
    run_sql(
        url,
        ddl.create_history(mapping(table="news", history=True), "sqlite").replace(
            "name TEXT", "name TEXT NOT NULL"
        ),
    )
    [mistake] = findings_of(url, table="news", history=True).mistakes
    assert "the column name of news is NOT NULL, and a deletion has nothing for it" in mistake.message


def test_histories_share_a_table_and_other_rows_do_not(url: str) -> None:
    def found(**options: Any) -> Findings:
        findings = Findings()
        pair = [mapping(**options), mapping(**{**options, "keys": "q:{id}"})]
        clashes.check_within(deployment(url, *pair), findings)
        return findings

    assert found(history=True).warnings == [] and len(found().warnings) == 1
    findings = Findings()
    clashes.check_within(deployment(url, *([mapping(history=True)] * 2)), findings)
    assert "both cover the same keys" in findings.mistakes[0].message
    shared = (
        mapping(columns={"a": "name"}, constants={"tenant": 1}),
        mapping(constants={"tenant": 2}, columns={"b": "b"}),
    )
    findings = Findings()
    clashes.check_within(deployment(url, *shared), findings)
    assert "the same column tenant" in findings.mistakes[0].message


def test_a_plan_says_what_becomes_stale(url: str) -> None:
    old = deployment(url, mapping(on_delete="mark", rest="others"))
    new = deployment(url, mapping(history=True))
    found = differences.between(old.to_payload(), new.to_payload())
    assert {each.what for each in found if each.is_destructive} >= {"rest", "deleted_at", "history"}


def test_tables_that_init_makes_have_the_columns_that_functions_add(url: str) -> None:
    def made(mapping: Mapping) -> sa.Table:
        columns: list[Any] = [
            sa.Column("id", sa.BigInteger, primary_key=True),
            sa.Column("name", sa.String(20)),
        ]
        return ddl.with_additions(sa.Table(mapping.table, sa.MetaData(), *columns), [mapping])

    options: dict[str, Any] = {
        "rest": "others",
        "constants": {"tenant": "eu", "level": 3, "share": 0.5, "live": True},
        "computed": {"label": "{name}", "at": "{@time}"},
    }
    soft = mapping(table="soft", on_delete="mark", **options)
    history = mapping(table="news", history=True, **options)
    creation.create(connect(make_url(url)), [made(soft), made(history)])
    findings = Findings()
    tables.check(deployment(url, soft, history), "functions.py", findings)
    assert (findings.mistakes, findings.warnings) == ([], [])
