"""Rows are read back: those of some keys, whole tables page by page, and only what is there."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from connectors import ConnectorError, SchemaMismatch
from tests.integration.connectors.conftest import Database
from tests.servers import run_sql

#: Names of a table and its columns that try every kind of quoting.
HOSTILE = "o\"r`d'er %s %% :x; ?"
KEY = "k%(a)s \\ {0} [x]"


def fill(database: Database, table: str, count: int) -> None:
    """Write ``count`` rows (a, b, v) of a table with the key (a, b)."""
    values = [{"a": b"%d" % (i % 3), "b": b"b%05d" % i, "v": b"v%d" % i} for i in range(count)]
    database.apply(*(database.upsert(table, each) for each in values))


def pairs(database: Database) -> None:
    """Create the table ``pairs``, whose primary key is not in the order of its columns."""
    database.sql('CREATE TABLE pairs ("v" VARCHAR(20), "b" VARCHAR(20), "a" INT, PRIMARY KEY ("a", "b"))')


def test_rows_come_in_the_order_of_the_keys(database: Database) -> None:
    pairs(database)
    fill(database, "pairs", 6)
    keys = [(1, "b00004"), (9, "b00000"), (0, "b00003"), (1, "b00004")]
    assert database.connector.read("pairs", keys, ["v", "a"]) == [
        (b"v4", b"1"),
        None,
        (b"v3", b"0"),
        (b"v4", b"1"),
    ]
    assert database.connector.read("pairs", keys[:2], []) == [(), None]
    assert database.connector.read("pairs", [], ["v"]) == []


def test_more_keys_than_one_statement_takes(database: Database) -> None:
    pairs(database)
    fill(database, "pairs", 2000)
    keys = [(i % 3, f"b{i:05}") for i in range(2500)]
    rows = database.connector.read("pairs", keys, ["v"])
    assert rows == [(b"v%d" % i,) if i < 2000 else None for i in range(2500)]


def test_columns_and_tables_that_are_missing(database: Database) -> None:
    pairs(database)
    with pytest.raises(SchemaMismatch, match="no column w"):
        database.connector.read("pairs", [(1, "b")], ["v", "w"])
    with pytest.raises(SchemaMismatch, match="no table gone"):
        database.connector.read("gone", [(1,)], [])


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_pages_hold_every_row_once(database: Database, most: int) -> None:
    pairs(database)
    fill(database, "pairs", 30)
    after = None
    found: list[Any] = []
    while True:
        page = database.connector.scan("pairs", ["v"], after, most=most)
        if not page:
            break
        assert len(page) <= most
        found.extend(page)
        after = (int(page[-1][0] or b""), (page[-1][1] or b"").decode())
    expected = sorted((b"%d" % (i % 3), b"b%05d" % i, b"v%d" % i) for i in range(30))
    assert found == expected


def test_pages_are_in_the_order_of_the_key_not_of_its_text(database: Database) -> None:
    database.sql("CREATE TABLE numbers (id INT PRIMARY KEY)")
    database.apply(*(database.upsert("numbers", {"id": b"%d" % i}) for i in (2, 10, 100, -5)))
    assert database.connector.scan("numbers", []) == [(b"-5",), (b"2",), (b"10",), (b"100",)]
    assert database.connector.scan("numbers", [], (2,), most=1) == [(b"10",)]
    assert database.connector.scan_keys("numbers", None, 3, "") == [(b"-5",), (b"2",), (b"10",)]
    assert database.connector.scan_keys("numbers", (10,), 3, "") == [(b"100",)]
    assert database.connector.scan_keys("numbers", (100,), 3, "") == []


ODD_ORDERS = {
    "mysql": {
        "ENUM('z', 'a''b', 'M')": ["z", "a'b", "M"],
        "SET('z', 'a', 'm')": ["", "z", "a", "z,a", "m", "a,m"],
        "FLOAT": ["0.1", "1.5", "3.14159"],
    },
    "postgresql": {"real": ["0.1", "1.5", "3.4e+38"], "money": ["-2.50", "0.10", "1000000.00"]},
}


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_pages_of_types_that_are_not_in_the_order_of_their_values(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database: Database = request.getfixturevalue(f"on_{kind}")
    for number, (of, values) in enumerate(ODD_ORDERS[database.backend].items()):
        table = f"odd{number}"
        database.sql(f"CREATE TABLE {table} (a INT, b {of}, PRIMARY KEY (a, b))")
        wanted = [(a, value.encode()) for a in (b"1", b"2") for value in values]
        database.apply(*(database.upsert(table, {"a": a, "b": b}) for a, b in wanted))
        convert = database.connector.table(table).columns["b"].convert
        found: list[Any] = []
        after = None
        while page := database.connector.scan(table, [], after, most=1):
            found += page
            assert len(found) <= len(wanted)
            after = (int(page[-1][0] or b""), convert(page[-1][1] or b""))
        assert found == wanted


BEYOND: dict[str, dict[str, list[Any]]] = {
    "postgresql": {
        "TIMESTAMPTZ": ["-infinity", "0044-03-15 12:00:00 BC", "2024-01-01", "12024-01-01", "infinity"],
        "DATE": ["-infinity", "2024-01-01", "infinity"],
        "TIME": ["23:59", "24:00:00"],
    },
    "mysql": {
        "DATE": ["0000-00-00", "2024-01-01"],
        "DATETIME": ["0000-00-00", "2024-01-01"],
        "YEAR": ["0000", "2024"],
        "ENUM('b', 'a')": ["", "b", "a"],
    },
    "sqlite": {"INTEGER NOT NULL": [1, "one", "two"], "DATE NOT NULL": ["2024-01-01", "tomorrow"]},
}


def test_pages_that_end_with_what_no_hash_could_write(database: Database) -> None:
    """Such as infinity, or a date that is none: the rows behind it come all the same."""
    for number, (declared, values) in enumerate(BEYOND[database.backend].items()):
        table = f"t{number}"
        key = "PRIMARY KEY (id, v)" if database.backend == "sqlite" else "PRIMARY KEY (id)"
        database.sql(f"CREATE TABLE {table} (id {declared}, v INT NOT NULL, {key})")
        engine = sa.create_engine(database.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            if database.backend != "sqlite":
                loose = {"mysql": "SET sql_mode = ''", "postgresql": "SET timezone = 'UTC'"}
                connection.exec_driver_sql(loose[database.backend])
            for at, value in enumerate(values):
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({value!r}, {at})")
        made = database.connector.table(table)
        columns = [made.columns[name] for name in made.primary_key]
        after, found = None, list[Any]()
        while page := database.connector.scan(table, ["v"], after, most=1):
            found += [row[-1] for row in page]
            assert len(found) <= len(values), declared
            after = tuple(map(database.connector.key_part, columns, [text or b"" for text in page[-1]]))
        assert found == [b"%d" % at for at in range(len(values))], declared


def test_hostile_names(database: Database) -> None:
    mark = "`" if database.backend == "mysql" else '"'

    def quote(name: str) -> str:
        return mark + name.replace(mark, mark * 2) + mark

    # Database.sql replaces quotes, which these names have.
    run_sql(
        database.url,
        f"CREATE TABLE {quote(HOSTILE)} ({quote(KEY)} VARCHAR(50) PRIMARY KEY, {quote(HOSTILE)} VARCHAR(90))",
    )
    keys = ["it's", "100%s", "a\\b", 'x"y', ":n", "?", "{0}", "ä😀"]
    database.apply(*(database.upsert(HOSTILE, {KEY: key.encode(), HOSTILE: key.encode()}) for key in keys))
    asked = [(key,) for key in [*keys, "none"]]
    rows = database.connector.read(HOSTILE, asked, [HOSTILE, KEY])
    assert rows == [*((key.encode(), key.encode()) for key in keys), None]
    first = database.connector.scan(HOSTILE, [HOSTILE], most=3)
    rest = database.connector.scan(HOSTILE, [HOSTILE], ((first[-1][0] or b"").decode(),))
    assert {row[0] for row in first + rest} == {key.encode() for key in keys}
    assert len(first + rest) == len(keys)


def test_keys_that_are_equal_to_the_database_alone(database: Database) -> None:
    """A write of person:ADA goes to the row ``ada`` where the collation says so; a read finds it there."""
    declared = {
        "postgresql": "VARCHAR(20) COLLATE loose",
        "mysql": "VARCHAR(20) COLLATE utf8mb4_general_ci",
        "sqlite": "VARCHAR(20) COLLATE NOCASE",
    }[database.backend]
    if database.backend == "postgresql":
        database.sql(
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    database.sql(f"CREATE TABLE persons (name {declared} PRIMARY KEY, age INT)")
    assert "share one row" in database.connector.table("persons").warnings[0]
    database.apply(
        database.upsert("persons", {"name": b"ada", "age": b"36"}),
        database.upsert("persons", {"name": b"Bob", "age": b"7"}),
    )
    keys = [("Bob",), ("ADA",), ("bob",), ("ada",), ("cy",)]
    rows = database.connector.read("persons", keys, ["age", "name"])
    assert rows == [(b"7", b"Bob"), (b"36", b"ada"), (b"7", b"Bob"), (b"36", b"ada"), None]


def test_a_key_that_the_database_refuses_has_no_row(on_postgres: Database) -> None:
    on_postgres.sql("CREATE TABLE hosts (address INET PRIMARY KEY, v INT)")
    on_postgres.apply(
        *(on_postgres.upsert("hosts", {"address": b"10.0.0.%d" % i, "v": b"1"}) for i in range(5))
    )
    keys = [("10.0.0.1",), ("no address",), ("10.0.0.3",), ("10.0.0.300",)]
    rows = on_postgres.connector.read("hosts", keys, ["v"])
    assert rows == [(b"1",), None, (b"1",), None]


def test_values_that_no_hash_can_write_are_shown_all_the_same(on_postgres: Database) -> None:
    on_postgres.sql("CREATE TABLE ends (id INT PRIMARY KEY, at TIMESTAMPTZ, day DATE, n NUMERIC)")
    on_postgres.sql("INSERT INTO ends VALUES (1, 'infinity', '-infinity', 'NaN')")
    on_postgres.sql("INSERT INTO ends VALUES (2, '0044-03-15 12:00+00 BC', '12024-01-01', 0)")
    assert on_postgres.connector.read("ends", [(1,), (2,)], ["at", "day", "n"]) == [
        (b"infinity", b"-infinity", b"NaN"),
        (b"0044-03-15 12:00:00 BC", b"12024-01-01", b"0"),
    ]


def test_the_server_settings_change_no_text(on_postgres: Database) -> None:
    name = on_postgres.connector._engine.url.database
    for setting in ("DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kolkata'", "IntervalStyle = 'iso_8601'"):
        on_postgres.sql(f'ALTER DATABASE "{name}" SET {setting}')
    on_postgres.sql(f'ALTER DATABASE "{name}" SET extra_float_digits = -15')
    on_postgres.connector.close()
    on_postgres.sql(
        "CREATE TABLE s (id INT PRIMARY KEY, a DATE, b TIMESTAMP, c TIMESTAMPTZ, "
        "d INTERVAL, e FLOAT, f TIMETZ)"
    )
    on_postgres.sql(
        "INSERT INTO s VALUES (1, '2024-02-03', '2024-02-03 04:05:06.5', '2024-02-03 04:05:06+01', "
        "'1 day 2:03', 0.1::float8 + 0.2::float8, '01:02+05:30')"
    )
    assert on_postgres.connector.read("s", [(1,)], list("abcdef")) == [
        (
            b"2024-02-03",
            b"2024-02-03T04:05:06.500000",
            b"2024-02-03T03:05:06+00:00",
            b"1 day 02:03:00",
            b"0.30000000000000004",
            b"01:02:00+05:30",
        )
    ]


def test_what_sqlite_keeps_in_any_column(on_sqlite: Database) -> None:
    on_sqlite.sql("CREATE TABLE loose (id INTEGER PRIMARY KEY, n INTEGER, t TEXT, d DATETIME, b BLOB)")
    on_sqlite.sql("INSERT INTO loose VALUES (1, 'text', x'ff00', '2024-01-02', 5)")
    on_sqlite.sql("INSERT INTO loose VALUES (2, 1.5, CAST(x'ff' AS TEXT), '2024-01-02 03:04:05.250000', 'ä')")
    assert on_sqlite.connector.read("loose", [(1,), (2,)], ["n", "t", "d", "b"]) == [
        (b"text", b"\xff\0", b"2024-01-02", b"5"),
        (b"1.5", b"\xff", b"2024-01-02T03:04:05.250000", "ä".encode()),
    ]
    on_sqlite.apply(on_sqlite.upsert("loose", {"id": b"3", "t": b"the connection writes again"}))
    assert on_sqlite.connector.table("loose").name == "loose"


def test_a_null_in_a_key_is_no_row_of_any_key(on_sqlite: Database) -> None:
    on_sqlite.sql("CREATE TABLE holes (a TEXT, b TEXT, PRIMARY KEY (a, b))")
    on_sqlite.sql("INSERT INTO holes VALUES (NULL, 'x'), ('a', NULL), ('a', 'b')")
    assert on_sqlite.connector.scan("holes", []) == [(b"a", b"b")]


# -- WHERE -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "v = 'v1'",
        "v = 'a;b' OR v = 'it''s (' OR v = 'v1'",
        "(a = 1 AND b LIKE 'b%') AND v = 'v1'",
        "a IN (SELECT 1) AND v = 'v1'",
        "v = 'v1' OR v = ':x ? %s --'",
    ],
)
def test_a_where_narrows_down(database: Database, where: str) -> None:
    pairs(database)
    fill(database, "pairs", 30)
    assert database.connector.check_where("pairs", where) == ""
    assert database.connector.scan("pairs", ["v"], where=where) == [(b"1", b"b00001", b"v1")]
    assert database.connector.scan("pairs", ["v"], (1, "b00001"), where) == []


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("", "empty"),
        ("a = 1; DROP TABLE pairs", "a ;"),
        ("a = 1 -- more", "comment"),
        ("a = 1 /* more", "comment"),
        ("a = 1) OR (b = 'x'", "closes nothing"),
        ("(a = 1", "not closed"),
        ("v = 'x", "quote that begins"),
        ("a = 1 ORDER BY a", "does not take it"),
        ("a = 1 LIMIT 1", "does not take it"),
        ("nothing = 1", "does not take it"),
        ("a = ?", "does not take it"),
        ("a = %s", "does not take it"),
        ("a = 1\0", "NUL"),
        ("UPDATE pairs SET a = 1", "does not take it"),
    ],
)
def test_a_where_that_is_none(database: Database, where: str, reason: str) -> None:
    pairs(database)
    assert reason in database.connector.check_where("pairs", where)


def test_a_where_writes_nothing(database: Database) -> None:
    """Where SQL lets an expression write at all, the transaction does not."""
    pairs(database)
    fill(database, "pairs", 3)
    if database.backend == "postgresql":
        body = "DELETE FROM pairs WHERE true RETURNING true"
        database.sql(f"CREATE FUNCTION spoil() RETURNS boolean LANGUAGE sql AS '{body}'")
    elif database.backend == "mysql":
        # MySQL with a binary log takes no function that says nothing of itself.
        body = "BEGIN DELETE FROM pairs; RETURN 1; END"
        database.sql(f"CREATE FUNCTION spoil() RETURNS INT DETERMINISTIC {body}")
    else:
        pytest.skip("SQLite has no expression that writes")
    where = "spoil()" if database.backend == "postgresql" else "spoil() = 1"
    with pytest.raises(ConnectorError, match=r"(?i)read.only"):
        database.connector.scan("pairs", [], where=where)
    assert len(database.connector.scan("pairs", [])) == 3


def test_sqlite_reads_cannot_write(on_sqlite: Database) -> None:
    pairs(on_sqlite)
    with pytest.raises(ConnectorError, match="readonly"):
        with on_sqlite.connector._reading() as connection:
            connection.exec_driver_sql("DELETE FROM pairs")
    fill(on_sqlite, "pairs", 1)
