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


class Trail:
    """Where a follower was, and when: by it, entries are let go of that were brought long enough ago.

    It outlives sessions, for connections may be cut all the while; but not a Redis that has gone back.
    """

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, str]] = collections.deque()
        self._place: tuple[str, str] | None = None

    def go_on(self, follower: str, position: str) -> None:
        """Begin a session from a position: what was before counts if it is where the last one ended."""
        if self._place != (follower, position):
            self._samples.clear()
        self.reach(follower, position)

    def reach(self, follower: str, position: str) -> None:
        """Note what Redis remembers from now on."""
        self._place = (follower, position)

    def sample(self, now: float, position: str, since: float) -> str | None:
        """Note a position; return the last one of a time not after ``since``, if there is any."""
        self._samples.append((now, position))
        while len(self._samples) > 1 and self._samples[1][0] <= since:
            self._samples.popleft()
        return self._samples[0][1] if self._samples[0][0] <= since else None
