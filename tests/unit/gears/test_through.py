"""The order of things in a lane of write-through: who waits comes first."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest

from connectors import Unavailable
from gears.worker import lanes
from gears.worker.lanes import Intake, Reading, Settled
from gears.worker.through import ThroughRunner


class _Exchange:
    """Writes down what the module is asked and told; each round has one entry."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def ask(self, settled: Settled | None, block_ms: int) -> None:
        self._said.append("ask" if settled is None else f"settle {settled.entry_id}, ask")

    def answer(self) -> Intake:
        self._said.append("answer")
        reading = Reading()
        reading.add([(b"1-1", [b"k", b"person:1", b"m", b"U1:0 *2"])])
        return Intake(reading, 1, frozenset([b"1-1"]))

    def settle(self, settled: Settled) -> None:
        self._said.append(f"settle {settled.entry_id}")

    def close(self) -> None:
        self._said.append("close")


class _Groups:
    def __init__(self, said: list[str], rounds: int) -> None:
        self._said = said
        self._rounds = rounds

    def tell(self) -> None:
        self._said.append("tell")

    def prune(self) -> None:
        self._rounds -= 1
        if self._rounds == 0:
            raise Unavailable("the connection is lost")


class _Runner(ThroughRunner):
    over = False
    owner = "me"
    deployment = cast("Any", types.SimpleNamespace(version=1))

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self._until_empty = False
        self._turn = None
        self._lane = cast("Any", types.SimpleNamespace(stream="lane"))
        self._shared = cast("Any", types.SimpleNamespace(url=""))
        self._backoff = cast("Any", types.SimpleNamespace(reset=lambda: None))

    def _take(self, *_: Any) -> Settled:
        self._said.append("commit")
        return Settled("1-1", [])


def test_a_group_is_settled_before_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where old records can't be forgotten, those who are taken by then are told before that is."""
    said: list[str] = []
    monkeypatch.setattr(lanes, "Exchange", lambda *_: _Exchange(said))
    groups: Any = _Groups(said, 2)
    nobody: Any = None
    with pytest.raises(Unavailable):
        _Runner(said)._work(nobody, nobody, groups)
    first = ["ask", "tell", "answer", "commit"]
    assert said == [*first, "settle 1-1, ask", "tell", "answer", "commit", "settle 1-1", "close"]
