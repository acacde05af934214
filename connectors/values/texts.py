"""The way back: what a database gives for a column, as the text that a hash field holds.

The text is such that the column's converter makes the same value of it again (``connectors/values/types.py``,
``connectors/values/times.py``). Times are written as ISO 8601 with a T, as Python's ``isoformat()`` does, the
same from every database; truth values are 1 and 0, for not every database can tell them from numbers.
"""

from __future__ import annotations

import datetime
import json
import re
import struct
from decimal import Decimal
from typing import Any, Callable, NamedTuple

Encode = Callable[[Any], bytes]

_TIME = rb"([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?\Z"
_CLOCK = re.compile(_TIME)
_TIMESTAMP = re.compile(rb"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]" + _TIME)
_TRUTH = {"true": b"1", "false": b"0"}


def plain(value: Any) -> bytes:
    """Return any value that a driver gives as a text; bytes stay as they are."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        # Also true and false.
        return b"%d" % value
    if isinstance(value, float):
        # The shortest text of which the same number is read again.
        return repr(value).encode()
    if isinstance(value, Decimal):
        return format(value, "f").encode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat().encode()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value).encode()
    return str(value).encode()


def truth(value: Any) -> bytes:
    """Return PostgreSQL's text of a truth value as 1 or 0."""
    return _TRUTH.get(value) or plain(value)


def timestamp(value: Any) -> bytes:
    """Return a timestamp that the database wrote as ISO 8601; what is none (infinity, say) stays."""
    text = plain(value)
    found = _TIMESTAMP.match(text)
    return text if found is None else found.group(1) + b"T" + _clock(*found.groups(b"")[1:])


def utc(value: Any) -> bytes:
    """Return a timestamp in UTC that the database wrote without a zone, with its zone."""
    text = plain(value)
    found = _TIMESTAMP.match(text)
    if found is None:
        return text
    day, time, fraction, _ = found.groups(b"")
    return day + b"T" + _clock(time, fraction, b"+00:00")


def clock(value: Any) -> bytes:
    """Return a time of day with all 6 digits of its fraction, or none; with its zone, if it has one."""
    text = plain(value)
    found = _CLOCK.match(text)
    return text if found is None else _clock(*found.groups(b""))


def _clock(time: bytes, fraction: bytes, zone: bytes) -> bytes:
    fraction = fraction.rstrip(b"0")
    if len(zone) == 3:
        zone += b":00"
    return time + (b"." + fraction.ljust(6, b"0") if fraction else b"") + zone


def single(value: Any) -> bytes:
    """Return the shortest text of a float of 4 bytes of which the same one is read again."""
    if not isinstance(value, float):
        return plain(value)
    wanted = struct.pack("f", value)
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if struct.pack("f", float(text)) == wanted:
            return text.encode()
    return f"{value:.9g}".encode()


class Text(NamedTuple):
    """How a column is read: ``select``, an SQL expression with ``{}`` for the column, and what makes bytes of
    its value.
    """

    select: str = "{}"
    encode: Encode = plain


PLAIN = Text()
