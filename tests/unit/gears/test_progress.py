"""A position that does not pass what is open."""

from __future__ import annotations

import random

from gears.worker.following import progress
from gears.worker.following.progress import Progress


def test_it_goes_on_when_nothing_is_open() -> None:
    made = Progress("0")
    made.pass_by("1", [])
    assert made.position == "1"
    made.pass_by("2", ["a", "b"])
    made.pass_by("3", [])
    assert (made.position, made.open) == ("1", {"a", "b"})
    made.settle(["a"])
    assert made.position == "1"
    made.settle(["b", "never open"])
    assert (made.position, made.open) == ("3", set())


def test_a_thing_that_is_open_again_holds_again() -> None:
    made = Progress("0")
    made.pass_by("1", ["a"])
    made.pass_by("2", ["a", "b"])
    made.settle(["a"])
    assert made.position == "1"
    made.pass_by("3", ["a"])
    made.settle(["b"])
    assert made.position == "2"
    made.settle(["a"])
    assert made.position == "3"


def test_no_position_is_told_too_early_however_many_there_are() -> None:
    dice = random.Random(5)
    made = Progress("0")
    opened: dict[int, int] = {}
    for number in range(1, 2000):
        left = [dice.randrange(50) for _ in range(dice.randrange(4))]
        for thing in left:
            opened.setdefault(thing, number)
        made.pass_by(str(number), left)
        done = [dice.randrange(50) for _ in range(dice.randrange(5))]
        made.settle(done)
        for thing in done:
            opened.pop(thing, None)
        assert made.open == set(opened)
        assert int(made.position) < min(opened.values(), default=number + 1)
        assert len(made._stages) <= progress.MAX_STAGES
    made.settle(range(50))
    assert made.position == "1999"
