"""Lanes that wait for each other: which go on by themselves, and where one waits for the wrong mark."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gears.worker.moving.circles import Mark, circle, wrong

Lanes = dict[str, list[Mark]]
SHARDS = "abc"


class Cluster:
    """Shards with a lane each, between which keys move; what is lost is lost by a promotion."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.lanes: Lanes = {shard: [] for shard in SHARDS}
        self.owner = {key: dice.choice(SHARDS) for key in "klm"}
        self.skew = {shard: dice.randrange(-200, 200) for shard in SHARDS}
        self.ms = 1000
        self.lost: list[Mark] = []

    def put(self, shard: str, came: bool, key: str, node: str) -> Mark:
        last = int(self.lanes[shard][-1].entry_id.split("-")[0]) if self.lanes[shard] else 0
        mark = Mark(came, key + node, f"{max(last, self.ms + self.skew[shard])}-{self.ms}")
        self.lanes[shard].append(mark)
        return mark

    def move(self, loses: bool = False) -> None:
        """Move a key; the mark of the shard that it came from may be lost."""
        self.ms += self.dice.randrange(500, 3000)
        key = self.dice.choice("klm")
        old = self.owner[key]
        new = self.owner[key] = self.dice.choice([each for each in SHARDS if each != old])
        if loses:
            self.lost.append(self.put(new, True, key, new))
        else:
            self.put(old, False, key, new)
            self.ms += self.dice.randrange(3)
            self.put(new, True, key, new)


def end(lanes: Lanes) -> tuple[int, list[Mark]]:
    """Let all lanes go on as workers do; return how many marks are left, and which were not waited for."""
    given: Counter[str] = Counter()
    left_out = []
    lanes = {name: list(marks) for name, marks in lanes.items()}
    while True:
        before = sum(map(len, lanes.values()))
        waiting = Counter(mark.token for marks in lanes.values() for mark in marks if not mark.came)
        for marks in lanes.values():
            while marks and (not marks[0].came or given[marks[0].token] or not waiting[marks[0].token]):
                mark = marks.pop(0)
                if not mark.came:
                    given[mark.token] += 1
                    waiting[mark.token] -= 1
                elif given[mark.token]:
                    given[mark.token] -= 1
                else:
                    left_out.append(mark)
        if sum(map(len, lanes.values())) == before:
            circles = {name: circle(lanes, given, name) for name in lanes}
            leaving = [name for name, links in circles.items() if links and wrong(links) == links[0]]
            if not leaving:
                return before, left_out
            for name in leaving:
                left_out.append(lanes[name].pop(0))


@pytest.mark.parametrize("seed", range(100))
def test_keys_that_move_to_and_fro_make_no_circle(seed: int) -> None:
    cluster = Cluster(random.Random(seed))
    for _ in range(30):
        cluster.move()
    for name in SHARDS:
        assert circle(cluster.lanes, Counter(), name) == []
    assert end(cluster.lanes) == (0, [])


@pytest.mark.parametrize("seed", range(100))
def test_where_marks_are_lost_all_lanes_end_and_only_those_are_not_waited_for_that_lost_them(
    seed: int,
) -> None:
    """Also where shards' clocks differ by less than the time between two moves of a key."""
    cluster = Cluster(random.Random(seed))
    for number in range(30):
        cluster.move(loses=number in (3, 12))
    left, left_out = end(cluster.lanes)
    assert left == 0
    assert Counter(mark.token for mark in left_out) == Counter(mark.token for mark in cluster.lost)
    assert set(left_out) == set(cluster.lost), "another mark of the same key was left out"


def test_a_lost_mark_makes_a_circle_once_its_key_has_come_again() -> None:
    """What the lane ``a`` waits for stands behind what it has yet to give."""
    lanes = {
        "a": [Mark(True, "ka", "1000-0"), Mark(False, "kb", "2000-0"), Mark(True, "ka", "3001-0")],
        "b": [Mark(True, "kb", "2001-0"), Mark(False, "ka", "3000-0")],
    }
    links = circle(lanes, Counter(), "a")
    assert [link.waits for link in links] == [lanes["a"][0], lanes["b"][0]]
    assert wrong(links).waits == lanes["a"][0]
    assert wrong(circle(lanes, Counter(), "b")).waits == lanes["a"][0]


def test_who_waits_behind_a_circle_is_not_in_it() -> None:
    lanes = {
        "a": [Mark(True, "ka", "1000-0"), Mark(False, "kb", "2000-0")],
        "b": [Mark(True, "kb", "2001-0"), Mark(False, "ka", "3000-0"), Mark(False, "lc", "4000-0")],
        "c": [Mark(True, "lc", "4001-0")],
    }
    assert circle(lanes, Counter(), "c") == []
    assert circle(lanes, Counter(), "a")


def test_a_token_that_is_there_ends_the_waiting() -> None:
    lanes = {
        "a": [Mark(True, "ka", "1000-0"), Mark(False, "kb", "2000-0")],
        "b": [Mark(True, "kb", "2001-0"), Mark(False, "ka", "3000-0")],
    }
    assert circle(lanes, Counter(["ka"]), "a") == []
    assert circle(lanes, Counter(["kb"]), "b") == []
