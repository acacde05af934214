"""Tells those whose time is over, in a thread of its own."""

from __future__ import annotations

import heapq
import threading
import time
from typing import Any

from gears.redisgears.api import start_thread


class Deadlines:
    """Calls ``expire()`` of what is not ``is_over`` by then."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._count = 0
        self._changed = threading.Condition()
        self._runs = False
        self._is_closed = False

    def add(self, milliseconds: int, waiting: Any) -> None:
        """Let something wait so long."""
        with self._changed:
            self._count += 1
            heapq.heappush(self._heap, (time.monotonic() + milliseconds / 1000, self._count, waiting))
            if not self._runs:
                self._runs = True
                start_thread(self._watch)
            elif self._heap[0][1] == self._count:
                self._changed.notify()

    def close(self) -> None:
        """End when nothing waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][2].is_over:
                    heapq.heappop(self._heap)
                if not self._heap:
                    if self._is_closed:
                        return
                    self._changed.wait()
                    continue
                seconds = self._heap[0][0] - time.monotonic()
                if seconds > 0:
                    self._changed.wait(seconds)
                    continue
                waiting = heapq.heappop(self._heap)[2]
            waiting.expire()
