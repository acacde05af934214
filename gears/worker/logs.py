"""The worker's log: one line an event, for people (console) or for programs (json).

A call names its event and the fields that programs look for::

    log.warning("%s: %s", lane, error, extra=event("lane_waits", lane=lane, error=error))

What repeats itself is told once; then, once a minute, how often it came again.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

FORMATS = ("console", "json")
VARIABLE = "GEARSYNC_LOG_FORMAT"
REPEAT_SECONDS = 60.0
MOST_KEYS = 1000
"""How many different warnings are remembered; texts with values in them must not fill the memory."""
UNNAMED = "note"
FAULT = "fault"
"""The event of an exception that nobody foresaw; its text is where it was."""


def event(name: str, **fields: Any) -> dict[str, Any]:
    """Return what a logging call takes as ``extra``. Fields hold no values of rows, and no secrets."""
    return {"event": name, "fields": fields}


class JsonLines(logging.Formatter):
    """A line of JSON: ``at``, ``level``, ``event``, ``message``, and the event's own fields."""

    def __init__(self, **always: Any) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line = {
            "at": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", UNNAMED),
            **self._always,
            **getattr(record, "fields", {}),
            "message": record.getMessage(),
        }
        return json.dumps(line, default=str)


class ConsoleLines(logging.Formatter):
    """The message with its time and level; what would begin another line is written as an escape."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s gearsync worker %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")


class _Seen(NamedTuple):
    told: float
    since: int
    last: logging.LogRecord | None


class Repeats(logging.Handler):
    """Hands on to another handler what is new; warnings and errors that repeat, once a minute as a count."""

    def __init__(self, handler: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._handler = handler
        self._clock = clock
        self._seen: dict[tuple[Any, ...], _Seen] = {}
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the record, or count it; and tell what was counted for long enough."""
        now = self._clock()
        for due in self._due(now):
            self._handler.handle(due)
        if record.levelno < logging.WARNING or self._is_new(_key(record), record, now):
            self._handler.handle(record)

    def close(self) -> None:
        """Tell what is still counted."""
        for due in self._due(float("inf")):
            self._handler.handle(due)
        super().close()

    def _is_new(self, key: tuple[Any, ...], record: logging.LogRecord, now: float) -> bool:
        with self._guard:
            seen = self._seen.get(key)
            if seen is None:
                if len(self._seen) >= MOST_KEYS:
                    self._seen.clear()
                self._seen[key] = _Seen(now, 0, None)
                return True
            self._seen[key] = _Seen(seen.told, seen.since + 1, record)
            return False

    def _due(self, now: float) -> list[logging.LogRecord]:
        found = []
        with self._guard:
            for key, seen in list(self._seen.items()):
                if now - seen.told < REPEAT_SECONDS:
                    continue
                if seen.last is None:
                    # Silent for so long: when it comes again, it is news.
                    del self._seen[key]
                else:
                    found.append(_repeated(seen.last, seen.since))
                    self._seen[key] = _Seen(now, 0, None)
        return found


def _key(record: logging.LogRecord) -> tuple[Any, ...]:
    """Return what makes two records the same: not the seconds and counts that stand in their texts."""
    fields = getattr(record, "fields", None)
    if fields is None:
        return record.msg, str(record.args)
    name = getattr(record, "event", UNNAMED)
    # Two faults of one type are told apart by where they were, and only the text says that.
    text = str(record.args) if name == FAULT else ""
    return name, text, *(fields.get(each) for each in ("lane", "target", "error"))


def _repeated(record: logging.LogRecord, times: int) -> logging.LogRecord:
    made = logging.makeLogRecord(record.__dict__)
    # Without arguments, a % in the text stands for itself.
    made.msg, made.args = f"{record.getMessage()} (repeated {times} times)", ()
    made.fields = {**getattr(record, "fields", {}), "repeated": times}
    return made


def set_up(kind: str, **always: Any) -> None:
    """Log to standard error from now on; ``always`` are fields of every line of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(**always) if kind == "json" else ConsoleLines())
    logging.basicConfig(level=logging.INFO, handlers=[Repeats(handler)], force=True)
