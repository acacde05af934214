"""What only SQLite has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connectors import ConversionError, SchemaMismatch


def test_declared_types_are_taken_at_their_word(on_sqlite: Any) -> None:
    on_sqlite.sql(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR(3), n NUMERIC(5,2), b BOOLEAN, d DATETIME, "
        "u UUID, x SOMETHING, j JSON, f FLOAT, t TIMESTAMPTZ)"
    )
    columns = on_sqlite.connector.table("t").columns
    for name, value in (
        ("id", b"x"),
        ("v", b"long"),
        ("n", b"1.234"),
        ("b", b"2"),
        ("d", b"today"),
        ("u", b"1"),
    ):
        with pytest.raises(ConversionError):
            columns[name].convert(value)
    # SQLite would make a number of it, and forget the zeros.
    for name in ("x", "j"):
        with pytest.raises(ConversionError, match="otherwise"):
            columns[name].convert(b"1.50" if name == "j" else b"0012")
    values = {
        "v": b"abc",
        "n": b"1.50",
        "b": b"yes",
        "d": b"2024-01-02T03:04:05Z",
        "x": b"00:12",
        "j": b"[1.50]",
    }
    values.update(f=b"inf", u=b"AAAAAAAA-0000-0000-0000-00000000000A", t=b"0")
    on_sqlite.apply(on_sqlite.upsert("t", {"id": b"1", **values}))
    assert on_sqlite.sql("SELECT v, n, b, d, u, x, j, f, t FROM t") == [
        (
            "abc",
            1.5,
            1,
            "2024-01-02 03:04:05.000000",
            "aaaaaaaa-0000-0000-0000-00000000000a",
            "00:12",
            "[1.50]",
            float("inf"),
            "1970-01-01 00:00:00.000000",
        )
    ]
    assert columns["d"].type_text == "DATETIME"


def test_decimals_that_sqlite_cant_keep(on_sqlite: Any) -> None:
    on_sqlite.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC)")
    convert = on_sqlite.connector.table("t").columns["n"].convert
    assert convert(b"123456789012.345") == 123456789012.345
    assert convert(Decimal(2) ** 62) == 2**62
    for value, reason in (
        (b"1234567890123.456", "15 digits"),
        (b"9223372036854775809", "15 digits"),
        (b"1e400", "too large"),
        (b"-1e999999", "too large"),
        (b"1e-400", "too small"),
        (b"1.23456789e-320", "too small"),
    ):
        with pytest.raises(ConversionError, match=reason):
            convert(value)
    assert convert(b"1e30") == 1e30
    assert convert(b"0e-999999") == 0


def test_deferred_foreign_key_is_a_mismatch(on_sqlite: Any) -> None:
    on_sqlite.sql("CREATE TABLE p (id INTEGER PRIMARY KEY)")
    on_sqlite.sql(
        "CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    with pytest.raises(SchemaMismatch, match="DEFERRED"):
        on_sqlite.connector.table("c")


def test_wal_is_on(on_sqlite: Any) -> None:
    assert on_sqlite.sql("PRAGMA journal_mode") == [("wal",)]


def test_column_of_a_refusal_is_named_whatever_its_name(on_sqlite: Any) -> None:
    on_sqlite.sql('CREATE TABLE "a.b" (id INTEGER PRIMARY KEY, "c.d, e" INT NOT NULL, "f.g" INT UNIQUE)')
    values = {"id": 1, "c.d, e": 1, "f.g": 1}
    on_sqlite.apply(*(on_sqlite.upsert("a.b", {**values, **more}) for more in ({}, {"id": 2})))
    on_sqlite.apply(on_sqlite.upsert("a.b", {"id": 3, "f.g": 3}))
    assert [refusal.column for refusal in on_sqlite.refusals] == ["f.g", "c.d, e"]


def test_values_of_which_a_table_computes_others(on_sqlite: Any) -> None:
    on_sqlite.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, doc TEXT, "
        "town TEXT GENERATED ALWAYS AS (json_extract(doc, '$.town')) STORED)"
    )
    rows = [
        on_sqlite.upsert("t", {"id": at, "doc": text}) for at, text in enumerate([b'{"town": "x"}', b"{"])
    ]
    assert on_sqlite.apply(*rows) == (1, 1)
    assert "malformed JSON" in on_sqlite.refusals[0].reason
