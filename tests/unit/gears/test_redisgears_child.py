"""What the process that writes for RedisGears makes of a lane's entries."""

from __future__ import annotations

from typing import Any

import pytest

from gears.applying.change import decode
from gears.redisgears.child import _entry_of


def test_a_plain_write_has_each_field_by_itself() -> None:
    entry_id, pairs = _entry_of(["1-2", ["k", "person:é", "p", "u1f", "first\x1flast", "Ada\x1f"]])
    assert (entry_id, pairs[:4]) == (b"1-2", [b"k", "person:é".encode(), b"m", b"u1f"])
    ((change,), malformed) = decode([(entry_id, pairs)])
    assert not malformed and change.image == {b"first": b"Ada", b"last": b""} and change.epoch == 0x1F


@pytest.mark.parametrize(
    "pairs",
    [
        ["k", "person:1", "p"],
        ["k", "person:1", "p", "u1", "first\x1flast", "Ada"],
        ["k", "person:1", "p", "u1", "first", bytearray(b"\xff")],
    ],
)
def test_an_entry_that_nobody_here_has_written_is_told_as_malformed(pairs: list[Any]) -> None:
    found, malformed = decode([_entry_of(["1-2", pairs])])
    assert not found and len(malformed) == 1
