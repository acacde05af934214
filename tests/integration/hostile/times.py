"""Dates, times of day and timestamps."""

from __future__ import annotations

import datetime
import random

from tests.integration.hostile.values import Bad, Good, Made
from tests.integration.hostile.values import bad as pick

NO_DATES = [
    b"2023-02-30",
    b"2023-02-29",
    b"2024-13-01",
    b"2024-00-10",
    b"2024-01-32",
    b"0000-00-00",
    b"0000-01-01",
]
NO_TIMES = [
    *(
        b"",
        b"now",
        b"yesterday",
        b"infinity",
        b"NaN",
        b"2024-1-1",
        b"01/02/2024",
        b"10000-01-01",
        b"-0001-01-01",
    ),
    *(
        "٢٠٢٤-٠١-٠١".encode(),
        b"2024-01-01\0",
        b"2024-01-01\n",
        b" 2024-01-01",
        b"2024-01-01 BC",
        b"\xff",
        b"0x1f",
    ),
]


def day(dice: random.Random, database: str) -> Good:
    held = datetime.date.fromordinal(
        dice.randint(datetime.date(1000, 1, 1).toordinal(), datetime.date.max.toordinal())
    )
    held = dice.choice([held, datetime.date(2024, 2, 29), datetime.date(9999, 12, 31)])
    return Good((held.isoformat() + dice.choice(["", "", "T00:00:00", " 00:00Z"])).encode(), held)


def bad_day(dice: random.Random, database: str) -> Bad:
    with_time = [b"2024-01-31T12:00:00", b"2024-01-31T23:30:00-01:00", b"2024-01-31 00:00:00.000001"]
    return pick(dice, {"no such": NO_DATES, "no date|no timestamp": NO_TIMES, "time of day": with_time})


def clock(dice: random.Random, database: str) -> Good:
    held = datetime.time(
        dice.randrange(24), dice.randrange(60), dice.randrange(60), dice.choice([0, 500000, 999999])
    )
    return Good(held.isoformat().encode(), held)


def bad_clock(dice: random.Random, database: str) -> Bad:
    texts = [
        b"12:60:00",
        b"12:00:61",
        b"noon",
        b"",
        b"1200",
        b"12:00:00+01:00",
        b"12:00:00.1234567",
        b"\xff",
        b"12:00\0",
    ]
    if database == "mariadb":
        return pick(dice, {"no time|digits": [*texts, b"839:00:00", b"-999:00:00"]})
    return pick(dice, {"no time|no such|zone|digits": [*texts, b"25:00", b"24:00:00", b"-01:00"]})


def moments(low: int, high: int) -> Made:
    def good(dice: random.Random, database: str) -> Good:
        span = datetime.datetime(high, 12, 30) - datetime.datetime(low, 1, 2)
        held = datetime.datetime(low, 1, 2) + datetime.timedelta(
            seconds=dice.randrange(int(span.total_seconds()))
        )
        form = dice.randrange(5)
        if form == 0 and low > 1000:
            return Good(str(int((held - datetime.datetime(1970, 1, 1)).total_seconds()) or 1).encode(), held)
        if form == 1:
            held = held.replace(microsecond=dice.randrange(10**6))
        zone = dice.choice(["", "", "Z", "+00:00", "-0000"])
        if form == 2:
            minutes = dice.randrange(-14 * 60, 14 * 60)
            zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
            there = held + datetime.timedelta(minutes=minutes)
            return Good(f"{there.isoformat()}{zone}".encode(), held)
        return Good(f"{held.isoformat(dice.choice('T '))}{zone}".encode(), held)

    return good


def bad_moment(dice: random.Random, database: str) -> Bad:
    clocks = [b"2024-01-01T25:00", b"2024-01-01T24:00:00", b"2024-01-01 12:60:00", b"2024-01-01T12:00:61"]
    zones = [b"2024-01-01T12:00:00+16:00", b"2024-01-01T12:00:00-99:99", b"2024-01-01T12:00:00+05:60"]
    edge = [b"0001-01-01T00:00:00+05:00", b"9999-12-31T23:59:59-05:00", b"-99999999999"]
    numbers = [b"99999999999999", b"-99999999999999999", b"1" * 20]
    unclear = [b"20240131", b"20240131120000"]
    fine = [b"2024-01-01T12:00:00.1234567", b"1700000000.1234567"]
    texts = [*NO_TIMES, b"2024-01-01T12:00:00 Europe/Berlin", b"1e9", b"2024-W01-1"]
    found = {"no such": [*NO_DATES, *clocks], "zone|no timestamp": zones, "years": edge, "too large": numbers}
    return pick(dice, {**found, "together": unclear, "digits": fine, "no timestamp": texts})


def bad_instant(dice: random.Random, database: str) -> Bad:
    if database == "mariadb" and dice.random() < 0.3:
        outside = [b"1969-12-31T23:59:59Z", b"2039-01-01T00:00:00Z", b"1000-01-01", b"9999-12-31"]
        return Bad(dice.choice(outside), ("incorrect", "Incorrect", "out of range"))
    return bad_moment(dice, database)
