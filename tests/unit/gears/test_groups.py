"""The records that SQL keeps of what clients were told."""

from __future__ import annotations

import types
from typing import Any

import pytest

from connectors import Position
from gears.applying import groups
from gears.applying.groups import KEEP_SECONDS, Groups


class Recorder:
    """A connector that takes down up to where it was to forget records."""

    def __init__(self) -> None:
        self.pruned: list[Position] = []

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
