"""What SQL remembers of a dead letter, and the letter that it gives back."""

from __future__ import annotations

import pytest

from connectors import Position
from gears.applying import deadletters
from gears.applying.change import Change
from gears.applying.deadletters import Fault
from gears.applying.remembered import REASON_BYTES, letter_of, remembered

AGE = Fault("people", "persons", "age", "column age: too large: \udcff\u00e9")
OTHER = Fault("archive", "archived", "", "no such place")


def change(meta: bytes) -> Change:
    return Change(b"5-1", b"person:\xff", meta, (b"n\xff", b"age"), [b"\x00\xff", b"99999999999"])


@pytest.mark.parametrize("transaction", ["", "4-0"])
@pytest.mark.parametrize("meta", [b"u1f", b"n1f+", b"q1f:ticket"])
def test_a_letter_is_as_it_was(meta: bytes, transaction: str) -> None:
    letter = deadletters.of_change(change(meta), [AGE, OTHER], transaction)
    [row] = remembered([letter], ["7-3"])
    assert (row.position, row.entry) == (Position(31, 5, 1), "7-3")
    assert row.at_ms == int(letter.fields["at"])
    assert letter_of(change(meta), row) == letter._replace(entry="7-3")


def test_nothing_of_the_values_is_remembered() -> None:
    letter = deadletters.of_change(change(b"u1f"), [OTHER])
    [row] = remembered([letter], ["5-1"])
    assert b"99999999999" not in row.record


def test_a_long_reason_is_cut() -> None:
    letter = deadletters.of_change(
        change(b"u1f"), [Fault("people", "persons", "", "x" * 7999 + "\u00e9" * 9)]
    )
    [row] = remembered([letter], ["5-1"])
    reason = letter_of(change(b"u1f"), row).fields["reason"].decode()
    assert reason == "x" * 7999 + "\u2026"
    assert len(row.record) < 2 * REASON_BYTES
