"""The tokens of keys that change their shard, in the transactions that give and take them."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import Moves, NotHandedOver
from connectors.bookkeeping.handover import AT_ONCE

MOVES = "SELECT token, moves FROM gearsync_handover ORDER BY token"


def move(database: Any, *given: str, taken: tuple[str, ...] = ()) -> None:
    database.connector.apply(
        *(database.claim, database.next_position(), [], database.refusals.extend, lambda each: ()),
        Moves(given, taken),
    )


def test_each_is_taken_as_often_as_it_was_given(database: Any) -> None:
    """A slot whose move was given up and begun again has two marks of one name, in one batch or in two."""
    move(database, "a", "b", "a")
    move(database, "a", "c")
    assert database.sql(MOVES) == [("a", 3), ("b", 1), ("c", 1)]
    move(database, "d", taken=("a", "b", "a"))
    assert database.sql(MOVES) == [("a", 1), ("c", 1), ("d", 1)]
    move(database, taken=("d", "c", "a"))
    assert database.sql(MOVES) == []


def test_where_one_is_missing_none_is_taken_and_nothing_is_applied(database: Any) -> None:
    move(database, "a", "b")
    before = database.connector.claim(*database.claim[:3]).position
    with pytest.raises(NotHandedOver) as raised:
        move(database, "d", taken=("c", "a", "b", "a", "c"))
    assert raised.value.tokens == ["c", "c", "a"]
    assert database.sql(MOVES) == [("a", 1), ("b", 1)]
    assert database.connector.not_handed_over(["b", "c"]) == ["c"]
    assert database.connector.claim(*database.claim[:3]).position == before


def test_more_than_one_statement_takes(database: Any) -> None:
    tokens = [f"{number:064d}" for number in range(2 * AT_ONCE + 1)]
    move(database, *tokens, *tokens[:1])
    with pytest.raises(NotHandedOver) as raised:
        move(database, taken=(*tokens, "x"))
    assert raised.value.tokens == ["x"]
    move(database, taken=tuple(tokens))
    assert database.sql(MOVES) == [(tokens[0], 1)]


def test_what_is_left_of_a_move_of_days_ago_says_nothing_of_one_of_today(database: Any) -> None:
    """A promotion lost the mark that takes it. With it, the key's new shard would go ahead of the old."""
    move(database, "a", "b")
    database.sql("UPDATE gearsync_handover SET updated_at = '2026-01-01 00:00:00' WHERE token = 'a'")
    with pytest.raises(NotHandedOver) as raised:
        move(database, taken=("a", "b"))
    assert raised.value.tokens == ["a"]
    move(database, "a", "b")
    assert database.sql(MOVES) == [("a", 1), ("b", 2)]
    move(database, taken=("a", "b", "b"))
    assert database.sql(MOVES) == []
