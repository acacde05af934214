"""What a database remembers of dead letters, in the transaction that leaves their changes out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from connectors import Applied, Fenced, Position
from connectors.bookkeeping import recall
from connectors.bookkeeping.letters import AT_ONCE, TABLE_NAME, Remembered
from tests.integration.connectors.conftest import STREAM

TABLE = "SELECT epoch, ms, seq, entry, at_ms FROM gearsync_letter ORDER BY epoch, ms, seq"
FIRST, LAST = Position(0, 0, 0), Position(9, 0, 0)


@pytest.fixture(autouse=True)
def strict(database: Any) -> None:
    database.sql("CREATE TABLE strict (id INT PRIMARY KEY, a INT NOT NULL)")


def row(database: Any, key: int, value: bytes | None = b"1") -> Any:
    return database.upsert("strict", {"id": b"%d" % key, "a": value})


def letter(seq: int, epoch: int = 1, at_ms: int = 1000) -> Remembered:
    return Remembered(Position(epoch, 5, seq), f"5-{seq}", at_ms, b"\x00\xff why")


def apply(database: Any, rows: list[Any], remembered: list[Remembered]) -> Applied:
    position = database.next_position()
    connector, refusals = database.connector, database.refusals.extend
    applied: Applied = connector.apply(
        database.claim, position, rows, refusals, lambda each: (), remembered=lambda: remembered
    )
    return applied


def test_who_refuses_nothing_has_no_table(database: Any) -> None:
    assert apply(database, [row(database, 1)], []) == (1, 0)
    assert recall.newest(database.connector, STREAM) is None
    recall.forget(database.connector, STREAM)
    with database.connector.transaction(reads=True) as connection:
        assert not database.connector.has_table(connection, TABLE_NAME)


def test_refused_before_sql_and_by_the_database(database: Any) -> None:
    apply(database, [row(database, 1)], [letter(1)])
    assert apply(database, [row(database, 2), row(database, 3, None)], [letter(2), letter(3, epoch=2)]) == (
        1,
        1,
    )
    assert database.sql(TABLE) == [(1, 5, 1, "5-1", 1000), (1, 5, 2, "5-2", 1000), (2, 5, 3, "5-3", 1000)]
    connector = database.connector
    assert recall.newest(connector, STREAM) == Position(2, 5, 3)
    assert recall.between(connector, STREAM, Position(1, 5, 2), LAST) == [
        letter(2)._replace(stream=STREAM),
        letter(3, epoch=2)._replace(stream=STREAM),
    ]
    assert recall.between(connector, STREAM + "1", FIRST, LAST) == []


def test_what_is_not_committed_is_not_remembered(database: Any) -> None:
    apply(database, [], [letter(1)])
    database.connector.claim(STREAM, 1, "another")
    with pytest.raises(Fenced):
        apply(database, [row(database, 1, None)], [letter(2)])
    assert len(database.sql(TABLE)) == 1


def test_many_and_the_same_again(database: Any) -> None:
    """As from a Redis that was restored from a backup: the later ids in Redis count."""
    many = [letter(seq) for seq in range(1, 2 * AT_ONCE + 2)]
    apply(database, [], many)
    apply(database, [], [many[1]._replace(entry="7-0"), many[2]])
    assert [each[3] for each in database.sql(TABLE)][:4] == ["5-1", "7-0", "5-3", "5-4"]
    assert len(database.sql(TABLE)) == len(many)


def test_what_was_held_back_counts_for_its_lane_and_others_do_not(database: Any) -> None:
    connector = database.connector
    for name in (STREAM, STREAM + ":h15a6", STREAM + "0"):
        database.claim, database.step = connector.claim(name, 1, "worker-1"), 0
        apply(database, [], [letter(1)])
    found = recall.between(connector, STREAM, FIRST, LAST)
    assert [each.stream for each in found] == [STREAM, STREAM + ":h15a6"]
    recall.forget(connector, STREAM)
    assert database.sql("SELECT stream FROM gearsync_letter") == [(STREAM + "0",)]


def test_letters_get_other_ids_from_who_has_the_lane_alone(database: Any) -> None:
    apply(database, [], [letter(1), letter(2)])
    moved = [letter(2)._replace(entry="8-0", stream=STREAM)]
    recall.move(database.connector, database.claim, moved)
    assert [each[3] for each in database.sql(TABLE)] == ["5-1", "8-0"]
    database.connector.claim(STREAM, 1, "another")
    with pytest.raises(Fenced):
        recall.move(database.connector, database.claim, [moved[0]._replace(entry="9-0")])
    assert [each[3] for each in database.sql(TABLE)] == ["5-1", "8-0"]


def test_old_ones_are_forgotten(database: Any) -> None:
    """Of a lane by its own worker, of one that is gone by that of any other."""
    for claim in (database.connector.claim(STREAM + "0", 1, "gone"), database.claim):
        database.claim = claim
        apply(database, [], [letter(1, at_ms=1000), letter(2, at_ms=2000), letter(3, at_ms=3000)])
    recall.prune(database.connector, STREAM, 3000, 2000)
    found = database.sql("SELECT stream, at_ms FROM gearsync_letter ORDER BY stream, at_ms")
    assert found == [(STREAM, 3000), (STREAM + "0", 2000), (STREAM + "0", 3000)]


def test_a_database_that_takes_no_note_takes_the_rows(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    database.sql("CREATE TABLE gearsync_letter (other INT)")
    with caplog.at_level(logging.WARNING):
        assert apply(database, [row(database, 1), row(database, 2, None)], [letter(1)]) == (1, 1)
    assert "takes no note of dead letters" in caplog.text
    assert database.checkpoint() == (1, 1, 0, 1)
    # It is looked for again, so that it counts as soon as somebody has mended it.
    database.sql("DROP TABLE gearsync_letter")
    apply(database, [], [letter(2)])
    assert len(database.sql(TABLE)) == 1
