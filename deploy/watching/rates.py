"""Rates of counters that start again from zero with the process that counts."""

from __future__ import annotations

import collections

#: Seconds over which a rate is an average: a worker tells its counters once a second, not at our looks.
WINDOW_SECONDS = 5.0


class Rate:
    """The rate of one counter, and how far it has grown since it was first seen."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._value: int | None = None
        self._life = ""
        self._grown = 0
        self._points: collections.deque[tuple[float, int]] = collections.deque()

    def observe(self, at: float, value: int | None, life: str = "") -> float | None:
        """Note the counter's value at a time (seconds); return its rate a second, None: not known yet.

        ``life`` names the process that counts, if it has a name: another one has counted from zero. So has
        one whose value is smaller than before. ``value`` None: nobody tells it now.
        """
        if value is None:
            self._points.clear()
            return None
        if self._value is not None:
            began_again = value < self._value or life != self._life
            self._grown += value if began_again else value - self._value
        self._value, self._life = value, life
        if self._points and at < self._points[-1][0]:
            # The clock was set back.
            self._points.clear()
        self._points.append((at, self._grown))
        while len(self._points) > 2 and self._points[1][0] <= at - self._window:
            self._points.popleft()
        return self._per_second()

    def _per_second(self) -> float | None:
        first_at, first = self._points[0]
        last_at, last = self._points[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None
