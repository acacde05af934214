"""What the kinds of functions have of their own, beside their mapping."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Union

from gears.declaring.additions import Problems

MAX_MS = 3_600_000
MAX_SECONDS = 10 * 365 * 86_400


@dataclass(frozen=True)
class Behind:
    """Changes go to SQL in batches, behind the write."""

    kind: ClassVar[str] = "write-behind"
    captures: ClassVar[bool] = True


@dataclass(frozen=True)
class Through:
    """The client of a write waits until its row is committed, at most ``timeout_ms``."""

    kind: ClassVar[str] = "write-through"
    captures: ClassVar[bool] = True
    timeout_ms: int = 5000


@dataclass(frozen=True)
class Reading:
    """A read of a key that is not in Redis loads its row, and waits for that at most ``timeout_ms``.

    ``ttl``: seconds that a loaded hash lives, 0: for ever. ``missing_ms``: how long it is remembered that a
    row does not exist. ``refresh_ahead``: a hash that is read in so many last seconds of its life is loaded
    again behind the reply; 0: never. ``on_failure``: ``"error"``, or ``"miss"``: the key is not there.
    """

    kind: ClassVar[str] = "read-through"
    captures: ClassVar[bool] = False
    timeout_ms: int = 5000
    ttl: int = 0
    missing_ms: int = 1000
    refresh_ahead: int = 0
    on_failure: str = "error"


@dataclass(frozen=True)
class Around:
    """Rows that others change in SQL reach Redis: ``on_change`` ``"invalidate"`` or ``"refresh"``.

    ``poll_ms``: the longest time between two looks at the outbox. ``ttl``: as for ``Reading``, of a hash that
    is refreshed.
    """

    kind: ClassVar[str] = "write-around"
    captures: ClassVar[bool] = False
    on_change: str = "invalidate"
    poll_ms: int = 200
    ttl: int = 0


Pattern = Union[Behind, Through, Reading, Around]
PATTERNS: dict[str, type[Pattern]] = {each.kind: each for each in (Behind, Through, Reading, Around)}

RANGES = {
    "timeout_ms": (1, MAX_MS, "a whole number of milliseconds from 1 to 3600000"),
    "missing_ms": (0, MAX_MS, "a whole number of milliseconds up to 3600000, 0 to remember nothing"),
    "poll_ms": (1, MAX_MS, "a whole number of milliseconds from 1 to 3600000"),
    "ttl": (0, MAX_SECONDS, "a whole number of seconds, 0 for no end"),
    "refresh_ahead": (0, MAX_SECONDS, "a whole number of seconds, 0 for never"),
}
CHOICES = {"on_failure": ("error", "miss"), "on_change": ("invalidate", "refresh")}


def options_of(kind: str) -> tuple[str, ...]:
    """Return the options that functions of this kind have beside those of a mapping."""
    return tuple(each.name for each in fields(PATTERNS[kind]))


def build(kind: str, options: dict[str, Any]) -> tuple[Pattern | None, Problems]:
    """Make the pattern of what a user wrote; None: it has the problems that are returned."""
    given = {name: options[name] for name in options_of(kind) if name in options}
    problems = [(name, problem) for name, value in given.items() for problem in _wrong(name, value)]
    if problems:
        return None, problems
    pattern = PATTERNS[kind](**given)
    if isinstance(pattern, Reading) and pattern.refresh_ahead and pattern.refresh_ahead >= pattern.ttl:
        message = "a hash is refreshed in the last seconds of its life: give a ttl that is longer"
        return None, [("refresh_ahead", message)]
    return pattern, []


def document(pattern: Pattern) -> dict[str, Any]:
    """Return the options of a pattern by name."""
    return asdict(pattern)


def _wrong(name: str, value: Any) -> list[str]:
    if name in CHOICES:
        choices = " or ".join(f'"{each}"' for each in CHOICES[name])
        return [] if value in CHOICES[name] else [f"{value!r} is neither; write {choices}"]
    low, high, words = RANGES[name]
    whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return [] if whole else [f"{value!r} is not {words}"]
