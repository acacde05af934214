"""How far a reader may say that it is: not beyond what is still to be done."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

MAX_STAGES = 100


class Progress:
    """A position that follows those that are passed, as long as nothing before them is open."""

    def __init__(self, position: str) -> None:
        self._safe = position
        # Each a position, and what is open before it and behind the one before.
        self._stages: collections.deque[tuple[str, set[Any]]] = collections.deque()

    @property
    def position(self) -> str:
        """The last position before which nothing is open."""
        return self._safe

    @property
    def open(self) -> set[Any]:
        """What is open."""
        return set().union(*(things for _, things in self._stages))

    def pass_by(self, position: str, left: Iterable[Any]) -> None:
        """Go on to a position; ``left`` is open before it."""
        things = set(left)
        if self._stages and (not things or len(self._stages) >= MAX_STAGES):
            things |= self._stages.pop()[1]
        self._stages.append((position, things))
        self._move()

    def settle(self, things: Iterable[Any]) -> None:
        """Close what was open."""
        done = set(things)
        for _, things_left in self._stages:
            things_left.difference_update(done)
        self._move()

    def _move(self) -> None:
        while self._stages and not self._stages[0][1]:
            self._safe = self._stages.popleft()[0]
