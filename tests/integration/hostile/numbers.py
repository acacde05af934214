"""Numbers, of every kind of column."""

from __future__ import annotations

import random
import struct
from decimal import Decimal
from typing import Any

from tests.integration.hostile.values import Bad, Good, Made
from tests.integration.hostile.values import bad as pick

NO_NUMBERS = [
    *(
        b"",
        b" 12",
        b"12 ",
        b"1_000",
        "١٢".encode(),
        b"0x1f",
        b"--1",
        b"+",
        b"-",
        b"12\n",
        b"12\0",
        b"\xff\xfe",
    ),
    *(
        "½".encode(),
        b"1,5",
        b"'1'",
        b"1; DROP TABLE x",
        b"NULL",
        b"None",
        b"1e",
        b"e5",
        b".",
        b"1.2.3",
        b"0b1",
    ),
    *("−5".encode(), b"1 2", b"\xef\xbb\xbf1", b"1" + b"\0" * 9, b"1f", b"1L", b"true1", "５".encode()),
]


SHORT = [
    (b"5.", Decimal(5)),
    (b".5", Decimal("0.5")),
    (b"1e3", Decimal(1000)),
    (b"-0", Decimal(0)),
    (b"0e999999", Decimal(0)),
    (b"0e-999999", Decimal(0)),
    (b"0." + b"0" * 3000, Decimal(0)),
    (b"0" * 3000 + b"2.50", Decimal("2.5")),
]


def whole(low: int, high: int) -> tuple[Made, Made]:
    def good(dice: random.Random, database: str) -> Good:
        number = dice.choice([low, high, 0, dice.randint(low, high), dice.randint(low, high)])
        forms = ["%d", "%d", "%+d", "%024d", "%+030d"]
        return Good((dice.choice(forms) % number).encode(), number)

    def bad(dice: random.Random, database: str) -> Bad:
        outside = [high + 1, low - 1, high * 10 + 7, 10**40, -(10**40), 1 << 64]
        beyond = [b"%d" % number for number in outside if not low <= number <= high]
        beyond += [b"9" * 6000, b"-" + b"1" * 5000]
        texts = [*NO_NUMBERS, b"1.5", b"1e3", b"NaN", b"Infinity", b"1e400", b"5."]
        return pick(dice, {"whole number": texts, "between": beyond})

    return good, bad


def fixed(before: int, after: int) -> tuple[Made, Made]:
    def good(dice: random.Random, database: str) -> Good:
        if database == "postgres" and dice.random() < 0.1:
            return Good(dice.choice([b"NaN", b"nan"]), "NaN")
        digits = dice.randrange(10 ** (before + after))
        number = Decimal(f"{dice.choice(['', '-'])}{digits}e-{after}")
        forms = [
            f"{number:f}",
            f"{number:+f}",
            f"{number:f}0000000",
            f"{number:E}",
            f"000{number.copy_abs():f}",
        ]
        if dice.random() < 0.2:
            return Good(*dice.choice(SHORT))
        text = dice.choice(forms)
        return Good(text.encode(), Decimal(text))

    def bad(dice: random.Random, database: str) -> Bad:
        many = [b"1" + b"0" * before, b"-" + b"9" * (before + 1), b"1e400", b"1e999999", b"7" * 5000]
        fine = [b"0." + b"0" * after + b"1", b"1e-400", b"-0.1" + b"1" * after, b"1e-999999"]
        texts = [
            *NO_NUMBERS,
            b"Infinity",
            b"-inf",
            b"1e9999999",
            *([] if database == "postgres" else [b"NaN"]),
        ]
        return pick(dice, {"decimal number": texts, "before the point": many, "after the point": fine})

    return good, bad


def free_number(dice: random.Random, database: str) -> Good:
    digits = dice.randrange(1, 10 ** (15 if database == "sqlite" else 40))
    number = Decimal(digits).scaleb(dice.randrange(-20, 20))
    if database == "postgres" and dice.random() < 0.2:
        number = dice.choice([Decimal("1e400"), Decimal("-1e-400"), Decimal("1.5e10000")])
    return Good(str(number).encode(), number)


def bad_free_number(dice: random.Random, database: str) -> Bad:
    beyond = {
        "sqlite": {"too large|too small|can't keep": [b"1e400", b"-1e400", b"1e-400", b"1234567890123456.5"]},
        "postgres": {"overflow|out of range": [b"1e131073", b"1e999999"]},
    }
    return pick(dice, {"decimal number": [*NO_NUMBERS, b"1e9999999"], **beyond[database]})


def double(dice: random.Random, database: str) -> Good:
    infinite = {"postgres": [b"Infinity", b"-inf", b"NaN"], "sqlite": [b"Infinity", b"-INF"]}.get(
        database, []
    )
    if infinite and dice.random() < 0.2:
        data = dice.choice(infinite)
        return Good(data, float(data))
    number = dice.choice(
        [dice.uniform(-1e6, 1e6), dice.uniform(-1, 1) * 10.0 ** dice.randrange(-300, 300), 1e308]
    )
    form = dice.choice([repr(number), f"{number:.17g}", f"{number:+.16e}"])
    return Good(form.encode(), float(form))


def bad_double(dice: random.Random, database: str) -> Bad:
    texts = {
        "no number": NO_NUMBERS,
        "too large": [b"1e400", b"-1e309"],
        "too small": [b"1e-400", b"-3e-330"],
    }
    special = {"mariadb": [b"NaN", b"inf", b"-Infinity"], "sqlite": [b"nan"]}.get(database, [])
    return pick(dice, {**texts, "neither": special} if special else texts)


def single(dice: random.Random, database: str) -> Good:
    number = dice.choice(
        [dice.uniform(-1e6, 1e6), dice.uniform(-1, 1) * 10.0 ** dice.randrange(-30, 30), 3e38]
    )
    return Good(repr(number).encode(), as_single(number))


def bad_single(dice: random.Random, database: str) -> Bad:
    large, small = [b"1e39", b"-3.5e38", b"1e400"], [b"1e-60", b"-1e-46", b"1e-400"]
    return pick(dice, {"no number": NO_NUMBERS, "too large": large, "too small": small})


def as_single(value: Any) -> float:
    found: float = struct.unpack("f", struct.pack("f", float(value)))[0]
    return found


def boolean(dice: random.Random, database: str) -> Good:
    word, held = dice.choice(
        [("1", 1), ("true", 1), ("T", 1), ("Yes", 1), ("0", 0), ("FALSE", 0), ("f", 0), ("no", 0)]
    )
    return Good(word.encode(), held)


def bad_boolean(dice: random.Random, database: str) -> Bad:
    texts = [b"", b"maybe", b"true ", b"ja", "ｔｒｕｅ".encode(), b"\xff", b"1.0", b"true\0", b"y", b"on"]
    return pick(dice, {"truth value|whole number": texts if database == "mariadb" else [*texts, b"2", b"-1"]})
