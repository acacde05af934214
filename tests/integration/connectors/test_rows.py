"""What each kind of row operation does to a table, on every database."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from connectors import RowOp, SchemaMismatch
from tests.servers import run_sql

PERSONS = """CREATE TABLE persons (person_id INT PRIMARY KEY, first VARCHAR(40) DEFAULT 'nobody', age INT,
 city VARCHAR(40) NOT NULL DEFAULT 'Rome', note VARCHAR(40))"""
ALL = "SELECT person_id, first, age, city, note FROM persons ORDER BY person_id"


@pytest.fixture(autouse=True)
def persons(database: Any) -> None:
    database.sql(PERSONS)


def test_upsert_inserts_then_updates(database: Any) -> None:
    database.apply(*(database.upsert("persons", {"person_id": b"%d" % i, "age": b"30"}) for i in range(3)))
    database.apply(database.upsert("persons", {"person_id": b"1", "age": b"31", "first": b"Ada"}))
    assert database.sql(ALL) == [
        (0, "nobody", 30, "Rome", None),
        (1, "Ada", 31, "Rome", None),
        (2, "nobody", 30, "Rome", None),
    ]


def test_existing_and_new_rows_in_one_batch(database: Any) -> None:
    database.apply(database.upsert("persons", {"person_id": b"1", "age": b"1"}))
    rows = [database.upsert("persons", {"person_id": b"%d" % i, "age": b"2"}) for i in range(1, 4)]
    assert database.apply(*rows) == (3, 0)
    assert database.sql("SELECT person_id, age FROM persons ORDER BY 1") == [(1, 2), (2, 2), (3, 2)]


def test_columns_that_are_not_written_keep_their_values(database: Any) -> None:
    database.sql("INSERT INTO persons VALUES (1, 'Ada', 36, 'London', 'old')")
    database.apply(database.upsert("persons", {"person_id": b"1", "age": b"37"}))
    assert database.sql(ALL) == [(1, "Ada", 37, "London", "old")]


def test_nulls_of_an_existing_and_of_a_new_row(database: Any) -> None:
    """An existing row gets NULL, or the default where NULL may not be; a new one gets the defaults."""
    database.sql("INSERT INTO persons VALUES (1, 'Ada', 36, 'London', 'old')")
    absent = ["first", "city"]
    database.apply(
        database.upsert("persons", {"person_id": b"1", "age": b"37"}, nulls=absent),
        database.upsert("persons", {"person_id": b"2", "age": b"38"}, nulls=absent),
    )
    assert database.sql(ALL) == [(1, None, 37, "Rome", "old"), (2, "nobody", 38, "Rome", None)]


def test_defaults_of_an_existing_row(database: Any) -> None:
    database.sql("INSERT INTO persons VALUES (1, 'Ada', 36, 'London', 'old')")
    database.apply(
        database.upsert("persons", {"person_id": b"1"}, defaults=["first", "age", "city"]),
        database.upsert("persons", {"person_id": b"2"}, defaults=["first", "age", "city"]),
    )
    assert database.sql(ALL) == [(1, "nobody", None, "Rome", "old"), (2, "nobody", None, "Rome", None)]


def test_key_alone_inserts_and_leaves_an_existing_row(database: Any) -> None:
    database.sql("INSERT INTO persons VALUES (1, 'Ada', 36, 'London', 'old')")
    database.apply(
        database.upsert("persons", {"person_id": b"1"}), database.upsert("persons", {"person_id": b"2"})
    )
    assert database.sql(ALL) == [(1, "Ada", 36, "London", "old"), (2, "nobody", None, "Rome", None)]


def test_key_zero_stays_zero(database: Any) -> None:
    """A server that counts keys itself takes 0 for the next number unless it is told."""
    column = {
        "postgresql": "INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "mysql": "INT AUTO_INCREMENT PRIMARY KEY",
        "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    }[database.backend]
    database.sql(f"CREATE TABLE counted (id {column}, a INT)")
    database.apply(database.upsert("counted", {"id": b"0", "a": b"1"}))
    database.apply(database.upsert("counted", {"id": b"0", "a": b"2"}))
    assert database.sql("SELECT id, a FROM counted") == [(0, 2)]


def test_composite_key_with_texts(database: Any) -> None:
    database.sql("CREATE TABLE pairs (a INT, b VARCHAR(40), c INT, PRIMARY KEY (b, a))")
    assert database.connector.table("pairs").primary_key == ("b", "a")
    names = [
        b"x",
        b"it's",
        b'say "hi"',
        b"back\\slash",
        "süß ☃ 😀".encode(),
        b"100%",
        b"%s",
        b":colon",
        b"{}",
        b"",
    ]
    rows = [
        database.upsert("pairs", {"a": b"%d" % i, "b": name, "c": b"1"}) for i in range(2) for name in names
    ]
    database.apply(*rows)
    expected = sorted((name.decode(), i) for i in range(2) for name in names)
    assert sorted(database.sql("SELECT b, a FROM pairs")) == expected
    database.apply(*(database.delete("pairs", name, b"1") for name in names))
    assert sorted(database.sql("SELECT b, a FROM pairs")) == [pair for pair in expected if pair[1] == 0]


def test_delete(database: Any) -> None:
    database.apply(*(database.upsert("persons", {"person_id": b"%d" % i}) for i in range(4)))
    assert database.apply(database.delete("persons", b"1"), database.delete("persons", b"7")) == (2, 0)
    assert database.sql("SELECT person_id FROM persons ORDER BY 1") == [(0,), (2,), (3,)]


def test_clear_stands_between_what_came_before_and_after(database: Any) -> None:
    database.sql("INSERT INTO persons (person_id) VALUES (1)")
    clear = RowOp("persons", "clear")
    before, after = (database.upsert("persons", {"person_id": key}) for key in (b"2", b"3"))
    database.apply(before, clear, after)
    assert database.sql("SELECT person_id FROM persons") == [(3,)]


def test_a_row_many_times_in_one_batch_passes_through_its_states_in_order(database: Any) -> None:
    states = [
        database.upsert("persons", {"person_id": b"1", "first": b"a", "age": b"1"}),
        database.delete("persons", b"1"),
        database.upsert("persons", {"person_id": b"1", "age": b"2"}),
        database.upsert("persons", {"person_id": b"1", "note": b"last"}),
    ]
    other = database.upsert("persons", {"person_id": b"2", "age": b"9"})
    database.apply(states[0], other, *states[1:])
    assert database.sql(ALL) == [(1, "nobody", 2, "Rome", "last"), (2, "nobody", 9, "Rome", None)]


def test_keys_that_are_equal_as_values_are_one_row(database: Any) -> None:
    """The keys person:7 and person:007 name the same number."""
    database.apply(
        database.upsert("persons", {"person_id": b"7", "age": b"1"}),
        database.upsert("persons", {"person_id": b"007", "age": b"2"}),
    )
    assert database.sql("SELECT person_id, age FROM persons") == [(7, 2)]
    assert database.refusals == []


@pytest.mark.parametrize(
    "name",
    [
        "select",
        "with space",
        "100%",
        "%s",
        "a:b",
        ":x",
        "Größe",
        'quo"te',
        "semi;colon",
        "a.b",
        "{x}",
    ],
)
def test_any_identifier(database: Any, name: str) -> None:
    quote = "`" if database.backend == "mysql" else '"'
    quoted = quote + name.replace(quote, quote * 2) + quote
    run = functools.partial(run_sql, database.url)
    run(f"CREATE TABLE {quoted} (id INT PRIMARY KEY, {quoted} INT NOT NULL DEFAULT 5, other INT)")
    for number in (b"1", b"2"):
        database.apply(database.upsert(name, {"id": b"1", name: number}, nulls=["other"]))
    database.apply(database.upsert(name, {"id": b"2", "other": b"1"}, defaults=[name]))
    database.apply(database.upsert(name, {"id": b"3", "other": b"1"}, nulls=[name]))
    assert run(f"SELECT id, {quoted} FROM {quoted} ORDER BY id") == [(1, 2), (2, 5), (3, 5)]
    database.apply(database.delete(name, b"1"))
    database.apply(RowOp(name, "clear"))
    assert run(f"SELECT COUNT(*) FROM {quoted}") == [(0,)]


def test_parents_and_children_in_one_batch(database: Any) -> None:
    """A child may come before its parent in the batch, and move away from a parent that goes."""
    database.sql("CREATE TABLE cities (city_id INT PRIMARY KEY)")
    database.sql(
        "CREATE TABLE homes (home_id INT PRIMARY KEY, city_id INT NOT NULL, "
        "FOREIGN KEY (city_id) REFERENCES cities (city_id))"
    )

    def home(home_id: bytes, city_id: bytes) -> Any:
        return database.upsert("homes", {"home_id": home_id, "city_id": city_id})

    def city(city_id: bytes) -> Any:
        return database.upsert("cities", {"city_id": city_id})

    assert database.apply(home(b"1", b"1"), city(b"1"), home(b"2", b"1")).refused == 0
    assert (
        database.apply(
            database.delete("cities", b"1"), home(b"1", b"2"), home(b"2", b"2"), city(b"2")
        ).refused
        == 0
    )
    assert database.sql("SELECT city_id FROM cities") == [(2,)]
    assert database.apply(
        *(database.delete("homes", i) for i in (b"1", b"2")), database.delete("cities", b"2")
    )
    assert database.sql("SELECT city_id FROM cities") == []
    database.apply(home(b"3", b"99"), city(b"5"))
    assert [refusal.row.table for refusal in database.refusals] == ["homes"]
    assert database.sql("SELECT city_id FROM cities") == [(5,)]


def test_table_that_refers_to_itself(database: Any) -> None:
    database.sql(
        "CREATE TABLE staff (id INT PRIMARY KEY, boss INT, FOREIGN KEY (boss) REFERENCES staff (id))"
    )
    rows = [database.upsert("staff", {"id": b"%d" % i, "boss": b"%d" % (i + 1)}) for i in range(5)]
    rows.append(database.upsert("staff", {"id": b"5", "boss": None}))
    assert database.apply(*rows) == (6, 0)
    assert len(database.sql("SELECT * FROM staff")) == 6


def test_table_description(database: Any) -> None:
    database.sql("CREATE TABLE mail (id INT PRIMARY KEY, address VARCHAR(40) UNIQUE, n INT NOT NULL)")
    table = database.connector.table("mail")
    assert table.primary_key == ("id",)
    assert table.unique_sets == [("address",)]
    assert table.columns["id"].primary_key
    assert (table.columns["address"].nullable, table.columns["n"].nullable) == (True, False)
    persons = database.connector.table("persons").columns
    assert [name for name, column in persons.items() if column.has_default] == ["first", "city"]
    assert "varchar" in persons["first"].type_text.lower() or "varying" in persons["first"].type_text


def test_missing_table_and_missing_key(database: Any) -> None:
    with pytest.raises(SchemaMismatch, match="no table nowhere"):
        database.connector.table("nowhere")
    database.sql("CREATE TABLE loose (a INT)")
    with pytest.raises(SchemaMismatch, match="no primary key"):
        database.connector.table("loose")
    database.sql("CREATE VIEW seen AS SELECT * FROM persons")
    with pytest.raises(SchemaMismatch, match=r"is a view|no primary key"):
        database.connector.table("seen")


def test_schema_that_changed_is_a_mismatch_until_tables_are_forgotten(database: Any) -> None:
    row = database.upsert("persons", {"person_id": b"1", "note": b"x"})
    database.sql("ALTER TABLE persons DROP COLUMN note")
    with pytest.raises(SchemaMismatch, match="note"):
        database.apply(row)
    database.connector.forget_tables()
    assert "note" not in database.connector.table("persons").columns
    assert database.apply(database.upsert("persons", {"person_id": b"1"})) == (1, 0)
    database.sql("DROP TABLE persons")
    with pytest.raises(SchemaMismatch):
        database.apply(row)


def test_marks_and_what_begins_anew(database: Any) -> None:
    """A mark is for a row that is there and has none; a marked row gets defaults where it is not written."""
    database.sql(
        "CREATE TABLE soft (id INT PRIMARY KEY, name VARCHAR(9) DEFAULT 'nobody', age INT, gone VARCHAR(9))"
    )
    database.sql("INSERT INTO soft VALUES (1, 'Ada', 36, NULL), (2, 'Eve', 7, 'before'), (3, 'Joe', 5, NULL)")
    marks = [
        RowOp("soft", "mark", (number,), ("gone",), (f"at {number}",), mark="gone") for number in (1, 2, 4)
    ]
    assert database.apply(*marks) == (3, 0)
    rows = "SELECT id, name, age, gone FROM soft ORDER BY id"
    assert database.sql(rows) == [(1, "Ada", 36, "at 1"), (2, "Eve", 7, "before"), (3, "Joe", 5, None)]
    again = [database.upsert("soft", {"id": b"%d" % number, "gone": None}) for number in (1, 3, 5)]
    for each in again:
        each.mark, each.resets = "gone", ("name", "age")
    database.apply(*again)
    assert database.sql(rows) == [
        (1, "nobody", None, None),
        (2, "Eve", 7, "before"),
        (3, "Joe", 5, None),
        (5, "nobody", None, None),
    ]
    assert database.connector.count("soft", absent="gone") == 3
    assert [row[0] for row in database.connector.scan("soft", [], absent="gone")] == [b"1", b"3", b"5"]
