"""What only MySQL and MariaDB have."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import ConversionError, SchemaMismatch, TargetError, connect
from tests.servers import run_sql


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


def test_columns_whose_names_hold_backticks(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (`i``d` INT PRIMARY KEY, `a````b` INT NOT NULL, `c``d` INT UNIQUE)")
    table = on_mysql.connector.table("t")
    assert (table.primary_key, table.unique_sets) == (("i`d",), [("c`d",)])
    on_mysql.apply(on_mysql.upsert("t", {"i`d": 1, "a``b": 2, "c`d": 3}), on_mysql.upsert("t", {"i`d": 2}))
    assert on_mysql.sql("SELECT * FROM t") == [(1, 2, 3)]
    assert [refusal.column for refusal in on_mysql.refusals] == ["a``b"]


def test_labels_with_characters_that_are_escaped(on_mysql: Any) -> None:
    labels = r"'back\\slash', 'o''k', 'a,b', 'new\nline', 'per%cent', '', 'ä'"
    on_mysql.sql(f"CREATE TABLE t (id INT PRIMARY KEY, e ENUM({labels}), s SET('x\\\\y', '''z'))")
    given = ["back\\slash", "o'k", "a,b", "new\nline", "per%cent", "", "ä"]
    rows = [on_mysql.upsert("t", {"id": at, "e": each, "s": "'z,x\\y"}) for at, each in enumerate(given)]
    on_mysql.apply(*rows)
    assert on_mysql.refusals == []
    assert on_mysql.sql("SELECT e, s FROM t ORDER BY id") == [(each, "x\\y,'z") for each in given]


def test_json_of_mariadb_is_judged_as_json(on_mysql: Any) -> None:
    """Where it is but a text with a constraint, the reason would be that constraint's name."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, j JSON)")
    with pytest.raises(ConversionError, match="no JSON document"):
        on_mysql.connector.table("t").columns["j"].convert(b"{'a': 1}")


NASTY = ["it's", "a.b", "select `x`", "%s %(y)s", "{z}", "' for column 'id'", 'd"q', "back\\slash"]


@pytest.mark.parametrize("name", NASTY)
def test_column_of_a_refusal_is_named_whatever_its_name(on_mysql: Any, name: str) -> None:
    table, text, number, checked = (quoted(name + each) for each in (" t", "2", "3", "4"))
    run_sql(
        on_mysql.url,
        f"CREATE TABLE {table} (id INT PRIMARY KEY, {quoted(name)} TIMESTAMP NULL, "
        f"{text} VARCHAR(9) CHARACTER SET latin1, {number} INT NOT NULL, "
        f"{checked} INT CHECK ({checked} < 5))",
    )
    fine: dict[str, Any] = {name + "3": 1}
    for at, values in enumerate(
        [{name: b"1900-01-01", **fine}, {name + "2": "☃", **fine}, {name + "4": 4}, {name + "4": 5, **fine}]
    ):
        on_mysql.apply(on_mysql.upsert(name + " t", {"id": at, **values}))
    named = [each.column for each in on_mysql.refusals]
    # MySQL itself tells a constraint's name only.
    of_check = name + "4" if on_mysql.refusals[3].reason.startswith("CONSTRAINT") else ""
    assert named == [name, name + "2", name + "3", of_check]


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
