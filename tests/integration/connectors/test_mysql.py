"""What only MySQL and MariaDB have."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import SchemaMismatch, TargetError, connect


def test_row_that_is_larger_than_a_packet(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE large (id INT PRIMARY KEY, b LONGBLOB)")
    (limit,) = on_mysql.sql("SELECT @@max_allowed_packet")[0]
    size = limit // 5
    rows = [on_mysql.upsert("large", {"id": i, "b": b"x" * (size if i != 2 else limit)}) for i in range(4)]
    assert on_mysql.apply(*rows) == (3, 1)
    assert "max_allowed_packet" in on_mysql.refusals[0].reason
    assert on_mysql.sql("SELECT id, LENGTH(b) FROM large") == [(0, size), (1, size), (3, size)]


def test_table_without_transactions_is_a_mismatch(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE loose (id INT PRIMARY KEY) ENGINE = MyISAM")
    with pytest.raises(SchemaMismatch, match="no transactions"):
        on_mysql.connector.table("loose")


def test_case_insensitive_key_is_warned_about(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE a (id VARCHAR(9) PRIMARY KEY) COLLATE utf8mb4_general_ci")
    on_mysql.sql("CREATE TABLE b (id VARCHAR(9) PRIMARY KEY) COLLATE utf8mb4_bin")
    assert "share one row" in on_mysql.connector.table("a").warnings[0]
    assert on_mysql.connector.table("b").warnings == []


def test_session_is_strict_whatever_the_server_says(on_mysql: Any) -> None:
    """Nothing that passes the converters is changed by the server either."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, l VARCHAR(9) CHARACTER SET latin1, e ENUM('a', 'b'))")
    rows = [
        on_mysql.upsert("t", {"id": 1, "l": "é", "e": b"a"}),
        on_mysql.upsert("t", {"id": 2, "l": "☃", "e": b"a"}),
    ]
    assert on_mysql.apply(*rows) == (1, 1)
    assert on_mysql.refusals[0].column == "l"
    assert on_mysql.sql("SELECT l FROM t") == [("é",)]


def test_defaults_that_are_expressions(on_mysql: Any) -> None:
    on_mysql.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL, "
        "e VARCHAR(9) NOT NULL DEFAULT (CONCAT('a', 'b')))"
    )
    columns = on_mysql.connector.table("t").columns
    assert [name for name, column in columns.items() if column.has_default] == ["e"]
    on_mysql.sql("INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'x')")
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "n": 2}, nulls=["e"]))
    on_mysql.apply(on_mysql.upsert("t", {"id": 2, "n": 2}, defaults=["e"]))
    assert on_mysql.sql("SELECT e FROM t") == [("ab",), ("ab",)]
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "e": "y"}, nulls=["n"]))
    assert [refusal.column for refusal in on_mysql.refusals] == ["n"]


def test_other_drivers_are_turned_away() -> None:
    with pytest.raises(TargetError, match="PyMySQL"):
        connect("mysql+mysqldb://localhost/x")


def test_column_whose_name_holds_a_backtick(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, `a``b` INT)")
    with pytest.raises(SchemaMismatch, match="backtick"):
        on_mysql.connector.table("t")
