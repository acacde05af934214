"""Hostile keys, names and values: every good one arrives as it is, every bad one is a dead letter."""

from __future__ import annotations

import datetime
import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.integration import hostile
from tests.integration.deploying import gearsync
from tests.integration.system import System
from tests.servers import run_sql

SOAK = os.environ.get("GEARSYNC_SOAK") == "1"
#: Random cases of each kind; with the curated ones some 500 in all, and over 3,400 in the long form.
COUNT = 500 if SOAK else 40

#: hash field → column; both hostile themselves.
FIELDS = {
    "short": 'sel"ect',
    "from": "or-der",
    "na'me": "per%cent",
    "b\u00e4": "col:on",
    "a b": "{brace}",
    "%s": "where",
}
TYPES = {
    "short": "VARCHAR(20)",
    "long": "TEXT",
    "small": "INTEGER",
    "big": "BIGINT",
    "amount": "NUMERIC(10, 2)",
    "born": "DATE",
}
COLUMNS = dict(zip(TYPES, FIELDS.items()))
TABLE = "ta\"b'le"

FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
WriteBehind(keys="h:{{id}}", table={TABLE!r}, columns={FIELDS!r}, target=first, name="hostile")
"""


@pytest.fixture
def table(database_url: str) -> sa.Table:
    """The table, with hostile names for itself and its columns."""
    kind = make_url(database_url).get_backend_name()
    texts: dict[str, Any] = {"VARCHAR(20)": sa.String(20), "TEXT": sa.Text()}
    if kind in ("mysql", "mariadb"):
        from sqlalchemy.dialects import mysql

        texts = {
            "VARCHAR(20)": mysql.VARCHAR(20, collation="utf8mb4_bin"),
            "TEXT": mysql.LONGTEXT(collation="utf8mb4_bin"),
        }
    types: dict[str, Any] = {
        "INTEGER": sa.Integer(),
        "BIGINT": sa.BigInteger(),
        "NUMERIC(10, 2)": sa.Numeric(10, 2),
        "DATE": sa.Date(),
    }
    types.update(texts)
    columns = [sa.Column(column, types[TYPES[name]]) for name, (_, column) in COLUMNS.items()]
    made = sa.Table(
        TABLE, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), *columns
    )
    engine = sa.create_engine(database_url)
    made.create(engine)
    engine.dispose()
    return made


def found_rows(url: str, table: sa.Table) -> dict[int, dict[str, Any]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(table))]
    engine.dispose()
    return {row.pop("id"): row for row in rows}


def test_every_value_arrives_or_is_a_dead_letter(database_url: str, table: sa.Table, tmp_path: Path) -> None:
    kind = make_url(database_url).get_backend_name()
    cases = hostile.cases(random.Random(26), COUNT, kind != "postgresql", 63 if kind == "sqlite" else 31)
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url})
    with system as client:
        pids = system.server.pid, system.status()["worker"]["pid"]
        with client.pipeline(transaction=False) as pipe:
            for number, case in enumerate(cases):
                pipe.hset(f"h:{number}", COLUMNS[case.column][0], case.value)
            pipe.execute()
        system.wait(90)
        rows = found_rows(database_url, table)
        letters = {letter["key"]: letter for letter in system.letters()}
        assert (system.server.pid, system.status()["worker"]["pid"]) == pids
    for number, case in enumerate(cases):
        column = COLUMNS[case.column][1]
        if case.refused:
            letter = letters.pop(f"h:{number}", None)
            assert letter is not None, (
                f"{case.column}: {case.value[:60]!r} is no dead letter; {rows.get(number)}"
            )
            assert letter["column"] == column, letter
            assert letter["reason"] and len(letter["reason"]) < 600
            assert number not in rows
        else:
            assert f"h:{number}" not in letters, letters[f"h:{number}"]["reason"]
            assert rows[number][column] == case.expected, (case.column, case.value[:60])
    assert letters == {}


KEYS = [
    b"h:",
    b"h:x",
    b"h:1:2",
    b"h:\0",
    b"h:\x1b[31mred",
    b"h:\xff",
    b"h:99999999999999999999",
    b"h: 1",
    b"h:1 ",
    b"h:+1",
    b"h:1'; --",
    "h:\u0661".encode(),
]


def test_keys_that_fit_no_row(database_url: str, table: sa.Table, tmp_path: Path) -> None:
    """Those that miss the template are counted, those whose part is no number are dead letters."""
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url})
    with system as client:
        for key in KEYS:
            client.hset(key, "short", "x")
        client.hset("h:7", "short", "good")
        system.wait(30)
        rows = found_rows(database_url, table)
        assert {number: row['sel"ect'] for number, row in rows.items()} == {1: "x", 7: "good"}
        status = system.status()
        assert status["missed"] == 2
        letters = system.letters()
        assert {letter["column"] for letter in letters} == {"id"}
        assert len(letters) == len(KEYS) - 3
        shown = gearsync("deadletters", "list", "--redis", system.server.url)
        assert shown.returncode == 0
        assert not set(shown.stdout) & {chr(code) for code in range(32) if chr(code) not in "\n"}


def test_a_hash_of_5000_fields_and_a_type_that_changes(
    database_url: str, table: sa.Table, tmp_path: Path
) -> None:
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url})
    with system as client:
        many: dict[Any, Any] = {f"f{number}": "x" * 10 for number in range(5000)}
        client.hset("h:1", mapping={**many, "short": "kept", "from": ""})
        client.hset("h:2", "short", "gone")
        client.set("h:2", "text")
        client.hset("h:3", "short", "first")
        client.set("h:3", "text")
        client.delete("h:3")
        client.hset("h:3", "from", "again")
        system.wait(30)
        rows = found_rows(database_url, table)
        assert sorted(rows) == [1, 3]
        assert (rows[1]['sel"ect'], rows[1]["or-der"]) == ("kept", "")
        assert (rows[3]['sel"ect'], rows[3]["or-der"]) == (None, "again")
        assert system.letters() == []


def test_a_schema_that_changes_under_way(database_url: str, table: sa.Table, tmp_path: Path) -> None:
    """A column is taken away and put back: all is held up meanwhile, and nothing is lost."""
    quote = "`" if make_url(database_url).get_backend_name() in ("mysql", "mariadb") else '"'
    name = quote + TABLE.replace(quote, quote * 2) + quote
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url})
    with system as client:
        client.hset("h:1", mapping={"a b": "1.5", "%s": "2026-11-21"})
        system.wait(30)
        run_sql(database_url, f"ALTER TABLE {name} RENAME TO {quote}away{quote}")
        for number in range(2, 50):
            client.hset(f"h:{number}", mapping={"a b": number, "%s": "2026-11-21"})
        system.until_waiting("first", "b'le")
        run_sql(database_url, f"ALTER TABLE {quote}away{quote} RENAME TO {name}")
        system.wait(60)
        rows = found_rows(database_url, table)
        assert {number: row["{brace}"] for number, row in rows.items()} == {
            1: Decimal("1.5"),
            **{number: Decimal(number) for number in range(2, 50)},
        }
        assert {row["where"] for row in rows.values()} == {datetime.date(2026, 11, 21)}
        assert system.letters() == []
