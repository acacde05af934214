"""Claims, fencing and positions: what makes a batch count exactly once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectors import Fenced, Position, SchemaMismatch, Unavailable, connect
from tests.integration.connectors.conftest import STREAM


@pytest.fixture(autouse=True)
def numbers(database: Any) -> None:
    database.sql("CREATE TABLE numbers (id INT PRIMARY KEY, a INT)")


def number(database: Any, key: int, value: int = 0) -> Any:
    return database.upsert("numbers", {"id": b"%d" % key, "a": b"%d" % value})


def test_first_claim_starts_at_zero_and_the_next_where_the_last_left_off(database: Any) -> None:
    assert database.claim.position == Position(0, 0, 0)
    database.apply(number(database, 1), number(database, 2))
    claim = database.connector.claim(STREAM, 1, "worker-2")
    assert claim.position == Position(1, 1, 0)
    assert claim.generation == database.claim.generation + 1
    assert database.checkpoint() == (1, 1, 0, 2)


def test_position_moves_without_rows(database: Any) -> None:
    assert database.apply() == (0, 0)
    assert database.checkpoint() == (1, 1, 0, 0)


def test_second_claim_fences_the_first(database: Any) -> None:
    database.connector.claim(STREAM, 1, "worker-2")
    with pytest.raises(Fenced, match="another worker"):
        database.apply(number(database, 1))
    assert database.sql("SELECT * FROM numbers") == []
    assert database.checkpoint() == (0, 0, 0, 0)


def test_higher_epoch_takes_over_and_the_lower_is_turned_away(database: Any) -> None:
    database.connector.claim(STREAM, 7, "promoted")
    with pytest.raises(Fenced, match="epoch 7"):
        database.connector.claim(STREAM, 6, "old")
    with pytest.raises(Fenced):
        database.apply(number(database, 1))
    assert database.connector.claim(STREAM, 7, "promoted again").generation == 3


@pytest.mark.parametrize("position", [(1, 5, 5), (1, 5, 4), (1, 4, 9), (0, 9, 9)])
def test_position_that_is_not_ahead_commits_nothing(database: Any, position: tuple[int, int, int]) -> None:
    """As after a COMMIT whose answer was lost, and a retry without a new claim."""
    apply = database.connector.apply
    apply(
        database.claim, Position(1, 5, 5), [number(database, 1, 1)], database.refusals.extend, lambda row: ()
    )
    with pytest.raises(Unavailable, match="claim it again"):
        apply(
            database.claim,
            Position(*position),
            [number(database, 1, 2)],
            database.refusals.extend,
            lambda row: (),
        )
    assert database.sql("SELECT a FROM numbers") == [(1,)]


def test_higher_epoch_goes_on_with_lower_ids(database: Any) -> None:
    apply = database.connector.apply
    for position in (Position(1, 5, 5), Position(2, 1, 0), Position(2, 1, 1)):
        apply(database.claim, position, [number(database, position.epoch)], print, lambda row: ())
    assert database.checkpoint()[:3] == (2, 1, 1)


def test_streams_are_apart(database: Any) -> None:
    """Also such that differ by case alone."""
    other = database.connector.claim(STREAM.upper(), 1, "worker-1")
    database.apply(number(database, 1))
    assert other.position == Position(0, 0, 0)
    assert other.generation == 1
    assert database.connector.claim(STREAM.upper(), 1, "worker-1").position == Position(0, 0, 0)


def test_checkpoint_table_is_made_by_several_at_once(database: Any) -> None:
    database.sql("DROP TABLE gearsync_checkpoint")
    connectors = [connect(database.url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda connector: connector.ensure_checkpoint(), connectors))
        claims = list(pool.map(lambda connector: connector.claim(STREAM, 1, "w"), connectors * 3))
    assert sorted(claim.generation for claim in claims) == list(range(1, 13))
    for connector in connectors:
        connector.close()


def test_claim_waits_for_the_transaction_of_the_old_owner(database: Any) -> None:
    """The new owner sees what the old one commits in its last transaction, not the state before."""
    inside, go = threading.Event(), threading.Event()

    def hold(refusals: object) -> None:
        inside.set()
        assert go.wait(20)

    database.sql("CREATE TABLE strict (id INT PRIMARY KEY, a INT NOT NULL)")
    rows = [number(database, 2), database.upsert("strict", {"id": b"1", "a": None})]
    with ThreadPoolExecutor(2) as pool:
        applying = pool.submit(
            database.connector.apply, database.claim, Position(1, 8, 0), rows, hold, lambda row: ()
        )
        assert inside.wait(20)
        claiming = pool.submit(database.connector.claim, STREAM, 1, "worker-2")
        with pytest.raises(TimeoutError):
            claiming.exception(timeout=0.3)
        go.set()
        assert applying.result(20).refused == 1
        assert claiming.result(20).position == Position(1, 8, 0)


def test_missing_checkpoint_table_is_a_mismatch(database: Any) -> None:
    database.sql("DROP TABLE gearsync_checkpoint")
    with pytest.raises(SchemaMismatch, match="gearsync_checkpoint"):
        database.apply(number(database, 1))


@pytest.mark.parametrize(
    ("owner", "before", "position", "is_doubled"),
    [
        ("2-b@aa.5-b1", "1-a@aa.5-a1", Position(4, 0, 0), True),
        ("2-b@aa.5-b1", "1-a@aa.4-a1", Position(4, 0, 0), True),
        ("2-b@aa.5-b1", "1-a@aa.5-b1", Position(5, 9, 0), False),
        ("2-b@aa.6-b1", "1-a@aa.5-a1", Position(5, 9, 0), True),
        ("2-b@aa.5-b1", "1-a@bb.5-a1", Position(5, 9, 0), False),
        ("2-b@aa.5-b1", "1-a@aa", Position(5, 9, 0), False),
        ("2-b@aa", "1-a@aa.5-a1", Position(5, 9, 0), False),
    ],
)
def test_what_another_life_applied_in_an_epoch_is_nothing_of_this_one(
    database: Any, owner: str, before: str, position: Position, is_doubled: bool
) -> None:
    connector = database.connector
    claim = connector.claim(STREAM, 5, before)
    held = connector.claim(STREAM + ":h0", 5, before)
    for each in (claim, held):
        connector.apply(each, Position(5, 9, 0), [], database.refusals.extend, lambda row: ())
    found = connector.claim(STREAM, 5, owner)
    assert (found.position, found.is_doubled) == (position, is_doubled)
    assert set(database.sql("SELECT epoch, ms, seq FROM gearsync_checkpoint")) == {position}
    assert not connector.claim(STREAM, 5, owner).is_doubled


def test_a_row_that_is_gone_is_made_by_a_claim_that_may(database: Any) -> None:
    database.sql("DELETE FROM gearsync_checkpoint")
    with pytest.raises(Unavailable, match="is gone from gearsync_checkpoint"):
        database.apply(number(database, 1))
    with pytest.raises(Fenced):
        database.connector.claim(STREAM, 1, "worker-1", adds=False)
    assert database.sql("SELECT * FROM gearsync_checkpoint") == []
    database.claim = database.connector.claim(STREAM, 1, "worker-1")
    database.apply(number(database, 1))
    assert database.connector.claim(STREAM, 1, "worker-2", adds=False).position == Position(1, 2, 0)


def test_streams_of_intents_are_found_by_the_ends_of_their_names(database: Any) -> None:
    """What stands in a name for itself stands for no other letter."""
    connector = database.connector
    connector.ensure_intents()
    names = ["gearsync:{1}:lane:a_b:0.1", "gearsync:{22}:lane:a_b:0.1", "gearsync:{3}:lane:aXb:0.1"]
    for epoch, name in enumerate(names, 1):
        claim = connector.claim(name, 1, "worker-1")
        connector.commit_intents(claim, Position(epoch, 1, 0), None, [], lambda _: b"[]")
    ends = "gearsync:{", "}:lane:a_b:0.1"
    assert connector.intent_streams(ends, 0) == names[:2]
    assert connector.intent_streams(ends, 1) == names[1:2]
    connector.forget_intents(names[1])
    assert connector.intent_streams(ends, 0) == names[:1]
