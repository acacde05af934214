"""Hostile values for tests: for each kind of column what must arrive, and what must be a dead letter.

What is expected is worked out here from the rules in docs/guide.md alone, not by the code under test.
"""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from typing import Any, NamedTuple

NASTY = [
    "'; DROP TABLE hostile; --",
    '"',
    "`",
    "%s %(x)s %%",
    "\\",
    "\\'",
    "{}",
    "$1",
    ":id",
    "?",
    "NULL",
    "null",
    "\u202e",
    "\u00e9\u4e16\U0001f600",
]
BAD_UTF8 = [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"a\xf0\x9f", b"\xfe\xfe"]
NO_WHOLE_NUMBERS = [
    b"",
    b" 12",
    b"12 ",
    b"1_000",
    b"0x1f",
    b"1.0",
    b"1e3",
    b"\xd9\xa1\xd9\xa2",
    b"--1",
    b"+",
    b"NaN",
    b"\x00",
    b"9" * 400,
    b"true",
    b"\xff",
]
NO_NUMBERS = [
    b"",
    b" 1",
    b"1,5",
    b"0x1f",
    b"1e999999999",
    b"abc",
    b"1.2.3",
    b"--1",
    b"\xff",
    b"12345678901",
    b"0.123",
]
NO_DATES = [
    b"",
    b"2026-02-30",
    b"2026-13-01",
    b"0000-01-01",
    b"10000-01-01",
    b"2026-1-1x",
    b"yesterday",
    b"2026-00-10",
    b"\xff",
    b"26/11/2026",
]


class Case(NamedTuple):
    """One value for one column. ``expected`` is what SQL must have; None with ``refused``: a dead letter."""

    column: str
    value: bytes
    refused: bool
    expected: Any = None


def _text(dice: random.Random) -> bytes:
    alphabet = ["a", "Z", "9", " ", "'", '"', "%", "\\", "\u00e9", "\u4e16", "\U0001f600", "\t", "\n", ";"]
    return "".join(dice.choice(alphabet) for _ in range(dice.randrange(40))).encode()


def _text_case(column: str, value: bytes, most: int | None, nul: bool) -> Case:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Case(column, value, True)
    fits = (most is None or len(text) <= most) and (nul or "\0" not in text)
    return Case(column, value, not fits, text if fits else None)


def _whole_case(column: str, value: bytes, low: int, high: int) -> Case:
    number = int(value)
    fits = low <= number <= high
    return Case(column, value, not fits, number if fits else None)


def cases(dice: random.Random, count: int, nul: bool, small_bits: int) -> list[Case]:
    """Return all curated cases, and random ones up to ``count`` of each kind.

    ``nul``: texts may hold NUL; ``small_bits``: those of an INTEGER, without its sign.
    """
    found: list[Case] = []
    texts = (
        [each.encode() for each in NASTY] + BAD_UTF8 + [b"a\0b", b"", b"x" * 20, b"x" * 21, b"y" * (1 << 20)]
    )
    texts += [_text(dice) for _ in range(count)]
    texts += [dice.randbytes(dice.randrange(1, 12)) for _ in range(count)]
    found += [_text_case("short", value, 20, nul) for value in texts]
    found += [_text_case("long", value, None, nul) for value in texts]
    edges = [0, 1, -1, 2**15, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, 2**63, -(2**63), 10**30]
    numbers = [b"%d" % each for each in edges] + [b"+5", b"-0", b"007"]
    numbers += [b"%d" % dice.randrange(-(2**66), 2**66) for _ in range(count)]
    for column, bits in (("small", small_bits), ("big", 63)):
        found += [_whole_case(column, value, -(2**bits), 2**bits - 1) for value in numbers]
        found += [Case(column, value, True) for value in NO_WHOLE_NUMBERS]
    for _ in range(count):
        amount = Decimal(dice.randrange(-(10**10) + 1, 10**10)) / 100
        found.append(Case("amount", str(amount).encode(), False, amount))
    found += [Case("amount", value, True) for value in NO_NUMBERS]
    for _ in range(count):
        day = datetime.date.fromordinal(dice.randrange(400_000, 800_000))
        found.append(Case("born", day.isoformat().encode(), False, day))
    found += [Case("born", value, True) for value in NO_DATES]
    dice.shuffle(found)
    return found
