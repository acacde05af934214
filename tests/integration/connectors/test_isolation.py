"""Refused rows: isolated, handed out before the commit, and never in the way of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from connectors import Refusal, RowOp

STRICT = "CREATE TABLE strict (id INT PRIMARY KEY, email VARCHAR(40) UNIQUE, a INT NOT NULL, CHECK (a <> 13))"

CHILD = """CREATE TABLE child (id INT PRIMARY KEY, strict_id INT,
 FOREIGN KEY (strict_id) REFERENCES strict (id))"""


@pytest.fixture(autouse=True)
def strict(database: Any) -> None:
    database.sql(STRICT)


def row(database: Any, key: int, a: object = b"1", email: str | None = None) -> RowOp:
    made: RowOp = database.upsert(
        "strict", {"id": key, "email": email if email is not None else f"{key}@x", "a": a}
    )
    return made


def test_bad_rows_among_a_thousand_good_ones(database: Any) -> None:
    bad = {0, 13, 14, 500, 777, 999}
    rows = [row(database, i, None if i in bad else b"1") for i in range(1000)]
    assert database.apply(*rows) == (994, 6)
    assert {refusal.row.key[0] for refusal in database.refusals} == bad
    assert all("a" in refusal.reason for refusal in database.refusals)
    assert {refusal.column for refusal in database.refusals} == {"a"}
    assert {key for (key,) in database.sql("SELECT id FROM strict")} == set(range(1000)) - bad
    assert database.checkpoint() == (1, 1, 0, 994)


def test_batch_of_bad_rows_only(database: Any) -> None:
    assert database.apply(*(row(database, i, b"13") for i in range(5))) == (0, 5)
    assert database.sql("SELECT * FROM strict") == []
    assert database.checkpoint() == (1, 1, 0, 0)


def test_value_of_a_unique_column_that_another_row_has(database: Any) -> None:
    """The other row stays as it is; MySQL would update that one if it were let."""
    database.apply(row(database, 1, b"5", "one@x"), row(database, 2, b"5", "two@x"))
    database.apply(row(database, 3, b"6", "one@x"))
    database.apply(row(database, 2, b"7", "one@x"), row(database, 4, b"8", "four@x"))
    assert [refusal.row.key for refusal in database.refusals] == [(3,), (2,)]
    assert database.sql("SELECT id, email, a FROM strict ORDER BY id") == [
        (1, "one@x", 5),
        (2, "two@x", 5),
        (4, "four@x", 8),
    ]


def test_unique_value_moves_from_a_deleted_row_to_another(database: Any) -> None:
    database.apply(row(database, 1, b"5", "one@x"))
    database.apply(row(database, 2, b"5", "one@x"), database.delete("strict", b"1"))
    assert database.refusals == []
    assert database.sql("SELECT id FROM strict") == [(2,)]


def test_last_good_state_of_a_refused_row_arrives(database: Any) -> None:
    last = row(database, 1, b"13")
    past = [row(database, 1, b"1"), row(database, 1, None), row(database, 1, b"2"), row(database, 1, None)]
    assert database.apply(row(database, 2), last, earlier={last: past}) == (3, 3)
    assert database.sql("SELECT id, a FROM strict ORDER BY id") == [(1, 2), (2, 1)]
    assert {id(refusal.row) for refusal in database.refusals} == {id(last), id(past[1]), id(past[3])}


def test_older_state_never_follows_a_newer_one_of_the_batch(database: Any) -> None:
    refused, newer = row(database, 1, b"13"), row(database, 1, b"3")
    database.apply(refused, newer, earlier={refused: [row(database, 1, b"2")]})
    assert database.sql("SELECT id, a FROM strict") == [(1, 3)]
    assert [refusal.row for refusal in database.refusals] == [refused]


def test_the_last_good_state_comes_before_what_else_the_batch_does_to_the_row(database: Any) -> None:
    """As with rows that are marked, or kept when a key is evicted, and with two functions of one table."""
    refused = row(database, 1, b"13", "refused@x")
    newer = database.upsert("strict", {"id": 1, "a": b"3"})
    past = {refused: [row(database, 1, b"1", "one@x"), row(database, 1, b"2", "two@x")]}
    assert database.apply(row(database, 2), refused, newer, earlier=past) == (4, 1)
    assert database.sql("SELECT id, email, a FROM strict WHERE id = 1") == [(1, "two@x", 3)]
    assert [refusal.row for refusal in database.refusals] == [refused]


def test_an_earlier_state_in_which_the_row_was_gone_takes_no_later_one_away(database: Any) -> None:
    """Of two functions of one table: the key was deleted, and is there again; what one has is refused."""
    database.apply(row(database, 1, b"1", "old@x"))
    good = database.upsert("strict", {"id": 1, "a": b"5"})
    refused = database.upsert("strict", {"id": 1, "a": b"13", "email": "new@x"})
    gone = database.delete("strict", b"1")
    gone.place, good.place, refused.place = 2, 3, 3
    assert database.apply(row(database, 2), good, refused, earlier={refused: [gone]}) == (3, 1)
    assert database.sql("SELECT id, email, a FROM strict WHERE id = 1") == [(1, None, 5)]


def test_child_waits_for_the_earlier_state_of_its_parent(database: Any) -> None:
    database.sql(CHILD)
    parent = row(database, 1, b"13")
    child = database.upsert("child", {"id": b"1", "strict_id": b"1"})
    database.apply(child, parent, earlier={parent: [row(database, 1, b"1")]})
    assert [refusal.row for refusal in database.refusals] == [parent]
    assert database.sql("SELECT id FROM child") == [(1,)]


def test_deletes_that_a_child_forbids(database: Any) -> None:
    database.sql(CHILD)
    database.apply(*(row(database, i) for i in range(5)))
    database.apply(database.upsert("child", {"id": b"1", "strict_id": b"3"}))
    assert database.apply(*(database.delete("strict", i) for i in range(5))) == (4, 1)
    assert [refusal.row.key for refusal in database.refusals] == [(3,)]
    assert database.sql("SELECT id FROM strict") == [(3,)]


def test_nothing_is_committed_when_refusals_cant_be_handed_out(database: Any) -> None:
    class RedisIsGone(Exception):
        pass

    def fail(refusals: Sequence[Refusal]) -> None:
        raise RedisIsGone

    with pytest.raises(RedisIsGone):
        database.connector.apply(
            database.claim,
            database.next_position(),
            [row(database, 1), row(database, 2, None)],
            fail,
            lambda each: (),
        )
    assert database.sql("SELECT * FROM strict") == []
    assert database.checkpoint() == (0, 0, 0, 0)
    assert database.apply(row(database, 1), row(database, 2, None)) == (1, 1)


def test_refusals_are_handed_out_once_and_before_the_commit(database: Any) -> None:
    seen: list[Any] = []

    def look(refusals: Sequence[Refusal]) -> None:
        seen.append([refusal.row.key for refusal in refusals])
        seen.append(database.sql("SELECT id FROM strict"))

    rows = [row(database, 1), row(database, 2, None)]
    database.connector.apply(database.claim, database.next_position(), rows, look, lambda each: ())
    assert seen == [[(2,)], []]


def test_trigger_that_refuses(database: Any) -> None:
    if database.backend == "postgresql":
        database.sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN IF NEW.a = 7 THEN RAISE ''seven''; END IF; RETURN NEW; END'"
        )
        database.sql("CREATE TRIGGER t BEFORE INSERT ON strict FOR EACH ROW EXECUTE FUNCTION no()")
    elif database.backend == "mysql":
        database.sql(
            "CREATE TRIGGER t BEFORE INSERT ON strict FOR EACH ROW IF NEW.a = 7 THEN "
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'seven'; END IF"
        )
    else:
        database.sql(
            "CREATE TRIGGER t BEFORE INSERT ON strict WHEN NEW.a = 7 BEGIN SELECT RAISE(ABORT, 'seven'); END"
        )
    assert database.apply(row(database, 1), row(database, 2, b"7")) == (1, 1)
    assert "seven" in database.refusals[0].reason


def test_a_column_that_came_after_the_table_was_read_is_named(database: Any) -> None:
    database.sql("CREATE TABLE changed (id INT PRIMARY KEY, a INT)")
    database.sql("CREATE TABLE same (id INT PRIMARY KEY, a INT CHECK (a < 5))")
    rows = [database.upsert("changed", {"id": key, "a": b"1"}) for key in (1, 2)]
    fine = [database.upsert("same", {"id": key, "a": b"%d" % key}) for key in (1, 9)]
    # SQLite adds no column that has to be filled to a table that is there.
    database.sql("DROP TABLE changed")
    database.sql("CREATE TABLE changed (id INT PRIMARY KEY, a INT, city VARCHAR(9) NOT NULL)")
    assert database.apply(*rows, *fine) == (1, 3)
    assert [each.column for each in database.refusals if each.row.table == "changed"] == ["city", "city"]
