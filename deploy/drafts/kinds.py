"""Which type of SQL the values of a hash field have: what all of them are, never what most of them are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Callable

from connectors import ConversionError
from connectors.values import times as time_converters
from connectors.values import types as converters

# Numbers as programs write them. What has a leading zero or plus is no number: a code, or a phone's.
_INTEGER = re.compile(rb"(?:0|-?[1-9][0-9]*)\Z")
_DECIMAL = re.compile(rb"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?\Z")
_FLOAT = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\Z")
_DATE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_ZONE = re.compile(rb"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)\Z")
# What some database refuses in a JSON document although it is one: NUL, and halves of pairs.
_HARD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_TRUE, _FALSE = (b"true", b"yes", b"t", b"1"), (b"false", b"no", b"f", b"0")

#: What all values of a field must be, one after the other, the narrowest first.
KINDS = ("boolean", "integer", "decimal", "float", "date", "timestamp", "uuid", "json", "text")

_as_date = time_converters.date()
_as_timestamp = time_converters.timestamp(zone=True)
_as_json = converters.json_text(nul=False)
_as_float = converters.real()


def _takes(convert: Callable[[object], object], value: bytes) -> bool:
    try:
        convert(value)
    except ConversionError:
        return False
    return True


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _is_timestamp(value: bytes) -> bool:
    # A number could be one as well; it stays a number.
    return value[4:5] == b"-" and len(value) > 10 and _takes(_as_timestamp, value)


def _is_json(value: bytes) -> bool:
    return value[:1] in (b"{", b"[") and not _HARD_ESCAPE.search(value) and _takes(_as_json, value)


_TESTS: dict[str, Callable[[bytes], object]] = {
    "boolean": lambda value: value.lower() in _TRUE + _FALSE,
    "integer": _INTEGER.match,
    "decimal": _DECIMAL.match,
    "float": lambda value: _FLOAT.match(value) and _takes(_as_float, value),
    "date": lambda value: _DATE.match(value) and value[:4] != b"0000" and _takes(_as_date, value),
    "timestamp": _is_timestamp,
    "uuid": _UUID.match,
    "json": _is_json,
    "text": _is_text,
}


class Profile:
    """What is known of the values of one field, without keeping them: sizes, ranges, and which kinds fit.

    ``count`` values were seen, ``empty`` of them empty; ``examples`` are some of them, for trying.
    """

    MOST_EXAMPLES = 100
    LONGEST_EXAMPLE = 1000

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        self.count = 0
        self.empty = 0
        self.kinds = set(KINDS)
        self.examples: set[bytes] = set()
        self.lowest = self.highest = 0
        self.whole = self.scale = self.digits = 0
        self.characters = self.size = 0
        self.words: set[bytes] = set()
        self.zones = 0
        self.has_capitals = False
        for value in values:
            self.add(value)

    def add(self, value: bytes) -> None:
        """Take one more value into account."""
        self.count += 1
        self.kinds = {kind for kind in self.kinds if _TESTS[kind](value)}
        self.size = max(self.size, len(value))
        self.characters = max(self.characters, len(value.decode("utf-8", "replace")))
        self.empty += not value
        if len(self.examples) < self.MOST_EXAMPLES and len(value) <= self.LONGEST_EXAMPLE:
            self.examples.add(value)
        if "boolean" in self.kinds:
            self.words.add(value.lower())
        if "decimal" in self.kinds:
            self._measure(value)
        if "timestamp" in self.kinds and _ZONE.search(value[10:]):
            self.zones += 1
        self.has_capitals = self.has_capitals or value != value.lower()

    def _measure(self, value: bytes) -> None:
        found = _DECIMAL.match(value)
        assert found is not None  # noqa: S101 (for mypy)
        whole, fraction = found.groups(b"")
        self.whole = max(self.whole, len(whole.lstrip(b"0")))
        self.scale = max(self.scale, len(fraction))
        self.digits = max(self.digits, len((whole + fraction).strip(b"0")))
        if "integer" in self.kinds and len(value) < 40:
            self.lowest, self.highest = min(self.lowest, int(value)), max(self.highest, int(value))

    @property
    def is_flag(self) -> bool:
        """Whether only 0 and 1 were seen."""
        return "boolean" in self.kinds and self.words <= {b"0", b"1"}

    def kind(self) -> str:
        """Return the narrowest kind that all values have: one of KINDS, or ``bytes``."""
        if not self.count:
            return "text"
        for kind in KINDS:
            if kind in self.kinds and (kind != "boolean" or self._are_truths()):
                return kind
        return "bytes"

    def _are_truths(self) -> bool:
        """Whether the words are true and false, or both of another pair: a letter alone may be any code, and
        0 and 1 are numbers.
        """
        return self.words <= {b"true", b"false"} or self.words in ({b"yes", b"no"}, {b"t", b"f"})
