"""The records that SQL keeps of what clients were told."""

from __future__ import annotations

import types
from typing import Any

import pytest

from connectors import Position
from gears.applying import groups
from gears.applying.groups import KEEP_SECONDS, Groups
from gears.applying.intents import Intent


class Recorder:
    """A connector that takes records of so many bytes, and notes up to where it was to forget them."""

    def __init__(self, most: int = 0) -> None:
        self.pruned: list[Position] = []
        self.most = most

    def most_record(self) -> int:
        return self.most

    def prune_intents(self, stream: str, before: Position) -> None:
        assert stream == "lane"
        self.pruned.append(before)


def test_a_clock_that_jumps_takes_no_records_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was committed a minute ago, as time passes here, is forgotten; never the last record."""
    now = [1000.0]
    monkeypatch.setattr(groups, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    recorder, applier = Recorder(), types.SimpleNamespace(claimed=types.SimpleNamespace(stream="lane"))
    connector: Any = recorder
    kept: Any = applier
    found = Groups(connector, kept, None)

    def committed_at(seconds: float, position: Position | None) -> list[Position]:
        now[0] = 1000 + seconds
        found.last = position or found.last
        found.prune()
        return recorder.pruned

    first, second = Position(1, 5_000, 0), Position(1, 5_000 + 300_000, 0)
    assert committed_at(2, first) == []
    assert committed_at(4, second) == []
    assert committed_at(1 + KEEP_SECONDS, None) == []
    assert committed_at(3 + KEEP_SECONDS, None) == [first]
    assert committed_at(5 + KEEP_SECONDS, None) == [first, second]
    assert committed_at(500, None) == [first, second]


@pytest.mark.parametrize(
    ("most", "sizes"), [(0, [[3, 2, 2]]), (4_000, [[1_500], [2_500], [900, 1_100], [1_000]])]
)
def test_a_group_is_not_larger_than_what_sql_takes(most: int, sizes: list[list[int]]) -> None:
    intents = [
        Intent([], f"{n}-0", b"x" * size) for n, size in enumerate(size for part in sizes for size in part)
    ]
    connector: Any = Recorder(most)
    parts = Groups(connector, connector, None).parts(intents)
    assert [[len(each.command) for each in part] for part in parts] == sizes
    assert [each for part in parts for each in part] == intents
