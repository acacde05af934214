"""One write of a key at a time: each waits until those before it are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any


class Turns:
    """The queues of all keys. Whoever takes a turn at several keys takes it at all of them at once."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Any]] = {}

    def take(self, keys: Iterable[bytes], write: Any) -> None:
        """Let a write be the last in the queues of its keys."""
        for key in keys:
            self._queues.setdefault(key, deque()).append(write)

    def are_free(self, keys: Iterable[bytes]) -> bool:
        """Whether nobody has a turn at any of the keys."""
        return not any(key in self._queues for key in keys)

    def has_come(self, keys: Iterable[bytes], write: Any) -> bool:
        """Whether nobody stands before a write."""
        return all(self._queues[key][0] is write for key in keys)

    def all(self) -> list[Any]:
        """Return all writes that have a turn, or wait for one."""
        return list({id(write): write for queue in self._queues.values() for write in queue}.values())

    def leave(self, keys: Iterable[bytes], write: Any) -> None:
        """A write is over."""
        for key in keys:
            queue = self._queues[key]
            queue.remove(write)
            if not queue:
                del self._queues[key]
