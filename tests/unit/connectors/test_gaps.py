"""Ids that were passed over on MySQL, and those of them that turn up."""

from __future__ import annotations

import random

from connectors.outbox.mysql import MySQLOutbox, _Gap


def _gaps(*ranges: tuple[int, int]) -> MySQLOutbox:
    outbox = MySQLOutbox.__new__(MySQLOutbox)
    outbox._last = 10**6
    outbox._gaps = [_Gap(first, last, 0.0) for first, last in ranges]
    return outbox


def _found(outbox: MySQLOutbox, *numbers: int) -> list[tuple[int, int]]:
    outbox._close([(number, "t", None) for number in numbers])
    return [(gap.first, gap.last) for gap in outbox._gaps]


def test_a_gap_shrinks_is_split_and_closed() -> None:
    assert _found(_gaps((3, 9)), 3) == [(4, 9)]
    assert _found(_gaps((3, 9)), 9) == [(3, 8)]
    assert _found(_gaps((3, 9)), 5, 6) == [(3, 4), (7, 9)]
    assert _found(_gaps((3, 3)), 3) == []
    assert _found(_gaps((3, 4), (8, 9), (20, 30)), 3, 4, 8, 25) == [(9, 9), (20, 24), (26, 30)]
    assert _found(_gaps((3, 4)), 7) == [(3, 4)]


def test_the_position_is_before_the_first_gap() -> None:
    outbox = _gaps((30, 40), (50, 50))
    assert outbox.position == "29"
    _found(outbox, *range(30, 41), 50)
    assert outbox.position == str(10**6)


def test_what_is_left_is_what_was_not_found() -> None:
    dice = random.Random(7)
    for _ in range(300):
        missing = sorted(dice.sample(range(60), dice.randrange(40)))
        ranges: list[tuple[int, int]] = []
        for number in missing:
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        found = sorted(dice.sample(missing, dice.randrange(len(missing) + 1)))
        left = _found(_gaps(*ranges), *found)
        assert [number for first, last in left for number in range(first, last + 1)] == [
            number for number in missing if number not in found
        ]
