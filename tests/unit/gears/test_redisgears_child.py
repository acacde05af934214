"""What the process that writes for RedisGears makes of a lane's entries."""

from __future__ import annotations

from typing import Any

import pytest

from gears.applying.change import decode
from gears.redisgears.child import _entry_of


def test_texts_become_bytes() -> None:
    entry_id, pairs = _entry_of(["1-2", ["c5:first4:last", "\x1fu1f\x1fperson:é\x1fAda\x1f"]])
    ((change,), malformed) = decode([(entry_id, pairs)])
    assert not malformed and change.image == {b"first": b"Ada", b"last": b""} and change.epoch == 0x1F
    assert (change.id, change.key) == ("1-2", "person:é".encode())


def test_names_of_fields_that_are_no_text_come_one_character_a_byte() -> None:
    ((change,), malformed) = decode([_entry_of(["1-2", ["k", "a", "l", "u1", "\xff", bytearray(b"\xfe")]])])
    assert not malformed and change.image == {b"\xff": b"\xfe"}


@pytest.mark.parametrize(
    "pairs",
    [
        ["k", "person:1", "p"],
        ["c5:first4:last", "\x1fu1\x1fperson:1\x1fAda"],
        ["k", "person:1", "p", "u1", "first", bytearray(b"\xff")],
    ],
)
def test_an_entry_that_nobody_here_has_written_is_told_as_malformed(pairs: list[Any]) -> None:
    found, malformed = decode([_entry_of(["1-2", pairs])])
    assert not found and len(malformed) == 1
