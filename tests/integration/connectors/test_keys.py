"""Keys of every type: their rows are found and deleted by them, and triggers tell them as reading does."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.outbox import outbox_of
from connectors.triggers import triggers_of
from tests.integration.connectors.conftest import Database

KEYS = {
    "mysql": {
        "FLOAT": [b"0.1", b"3.14159", b"16777217", b"1e10", b"1.5"],
        "FLOAT(7, 4)": [b"0.1", b"123.4567"],
        "DOUBLE": [b"0.1", b"1", b"1e22", b"1e-7"],
        "DOUBLE(20, 4)": [b"0.1", b"1234567890.1234"],
        "TIME": [b"10:00:00"],
        "TIME(3)": [b"10:00:00", b"10:00:00.5", b"-00:10:00", b"100:00:00"],
        "DATETIME(3)": [b"2024-01-01T10:00:00.5", b"2024-01-01T10:00:00"],
        "TIMESTAMP(3)": [b"2024-01-01T10:00:00.5"],
        "DECIMAL(10, 2)": [b"1", b"1.5", b"-0"],
        "BIT(8)": [b"0", b"44", b"255"],
        "ENUM('z', 'a')": [b"a"],
        "INT(5) ZEROFILL": [b"7"],
        "VARBINARY(5)": [b"a\0b"],
    },
    "postgresql": {
        "float8": [b"1", b"0.1", b"1e15", b"infinity", b"nan", b"-0"],
        "real": [b"0.1", b"1", b"16777217", b"-infinity"],
        "numeric": [b"1", b"1.50", b"NaN", b"1e3"],
        "timestamptz": [b"2024-01-01T10:00:00.5+02:00"],
        "time(3)": [b"10:00:00.5"],
        "interval": [b"1 day", b"24:00:00"],
        "bool": [b"t"],
        "char(5)": [b"a "],
        "bytea": [b"a\0b"],
        "inet": [b"10.0.0.1", b"10.0.0.1/24", b"::1"],
        "cidr": [b"10.0.0.0/8"],
        "int4range": [b"[1,2]"],
        "text[]": [b'{a,"b c"}'],
        "raw": [b"a\0b"],
        "text_of_time": [b"2024-01-01T10:00:00.5+02:00"],
    },
    "sqlite": {
        "REAL": [b"1", b"0.1", b"1e16"],
        "NUMERIC(10, 2)": [b"1", b"1.5"],
        "TIME": [b"10:00:00.5"],
        "TIMESTAMP": [b"2024-01-01T10:00:00Z"],
        "BLOB": [b"a\0b"],
    },
}


@pytest.mark.parametrize("kind", ["mysql", "postgres", "sqlite"])
def test_each_key_finds_its_row_and_triggers_tell_it(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue(f"on_{kind}")
    triggers, outbox = triggers_of(database.connector), outbox_of(database.connector)
    wrong: list[Any] = []
    if kind == "postgres":
        database.sql("CREATE DOMAIN raw AS BYTEA")
        database.sql("CREATE DOMAIN text_of_time AS TIMESTAMPTZ")
    for number, (declared, keys) in enumerate(KEYS[database.backend].items()):
        table = f"t{number}"
        database.sql(f"CREATE TABLE {table} (id {declared} PRIMARY KEY, v INT)")
        column = database.connector.table(table).columns["id"]
        triggers.run(triggers.statements([database.connector.table(table)]))
        if number == 0:
            outbox.begin(outbox.now())
        for key in keys:
            database.apply(database.upsert(table, {"id": key, "v": b"1"}))
            ((text,),) = database.connector.scan(table, [])
            assert text is not None
            assert database.connector.scan_keys(table, None, 9, "") == [(text,)]
            found = database.connector.read(table, [(column.convert(key),)], ["id"])
            zone = "SET timezone = 'Asia/Kolkata'; " if kind == "postgres" else ""
            database.sql(f"{zone}UPDATE {table} SET v = 2")
            entries = [entry.key[0] for entry in outbox.read(9) if entry.key]
            told = [database.connector.key_text(column, entry) for entry in entries]
            database.apply(database.upsert(table, {"id": text, "v": b"3"}))
            database.apply(database.delete(table, key))
            left = database.sql(f"SELECT COUNT(*) FROM {table}")
            if (found, told, left) != ([(text,)], [text], [(0,)]):
                wrong.append((declared, key, text, found, told, left))
                database.sql(f"DELETE FROM {table}")
                outbox.read(9)
    assert not wrong
    assert not database.refusals


def test_an_address_is_read_as_it_was_written(on_postgres: Database) -> None:
    """A cast to text adds /32, and so would name another key."""
    on_postgres.sql("CREATE TABLE hosts (address INET PRIMARY KEY, gate INET)")
    on_postgres.apply(on_postgres.upsert("hosts", {"address": b"10.0.0.1", "gate": b"::1"}))
    assert on_postgres.connector.scan("hosts", ["gate"]) == [(b"10.0.0.1", b"::1")]
