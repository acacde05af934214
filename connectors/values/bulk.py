"""Values converted a column at a time: what the most of a batch's rows pay for, with no Python code a value.

A converter (``connectors/values/types.py``) may bring such a way along. It is for the plain case, and must
give what the converter gives of each value; whatever it can't judge at a glance it leaves to the converter.
"""

from __future__ import annotations

import re
from array import array
from decimal import Decimal
from typing import Any, Callable, List, Pattern, Sequence

from connectors.tables import Convert

#: The values of a column, all bytes; raises ConversionError if one does not fit, as the converter would.
Many = Callable[[Sequence[bytes]], List[Any]]

_INTEGERS = re.compile(rb"[+-]?[0-9]+(?:\n[+-]?[0-9]+)*\Z")
_NUMBERS = re.compile(
    rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?"
    rb"(?:\n[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?)*\Z"
)
#: Longer ones are looked at one by one.
_MOST_DIGITS = 30
_MOST_REAL = 40


def with_many(convert: Convert, many: Many) -> Convert:
    """Return the converter, which brings ``many`` along from now on."""
    convert.many = many  # type: ignore[attr-defined]
    return convert


def many_of(convert: Convert) -> Many:
    """Return what converts a whole column as ``convert`` does its values."""
    found: Many | None = getattr(convert, "many", None)
    return each(convert) if found is None else found


def each(convert: Convert) -> Many:
    """Return what converts value by value."""

    def many(values: Sequence[bytes]) -> list[Any]:
        return [convert(value) for value in values]

    return many


def then(convert: Convert, finish: Convert) -> Many:
    """Return what does as ``convert`` and then ``finish``."""
    first = many_of(convert)

    def many(values: Sequence[bytes]) -> list[Any]:
        return list(map(finish, first(values)))

    return many


def integers(convert: Convert, low: int, high: int) -> Many:
    """Whole numbers from ``low`` to ``high``."""

    def many(values: Sequence[bytes]) -> list[Any]:
        if max(map(len, values)) <= _MOST_DIGITS and _lines(_INTEGERS, values):
            numbers = list(map(int, values))
            if low <= min(numbers) and max(numbers) <= high:
                return numbers
        return [convert(value) for value in values]

    return many


def decimals(convert: Convert, whole: int | None, after: int | None) -> Many:
    """Decimal numbers of at most so many digits before and after the point; None: any."""
    if after is not None and after < 0:
        return each(convert)
    before = rb"[+-]?[0-9]{1,%d}" % min(whole or _MOST_DIGITS, _MOST_DIGITS) if whole != 0 else rb"[+-]?0"
    fits = (
        before if after == 0 else before + rb"(?:\.[0-9]{0,%d})?" % min(after or _MOST_DIGITS, _MOST_DIGITS)
    )
    pattern = re.compile(fits + rb"(?:\n" + fits + rb")*\Z")

    def many(values: Sequence[bytes]) -> list[Any]:
        lines = _lines(pattern, values)
        if lines:
            return list(map(Decimal, lines.decode("ascii").split("\n")))
        return [convert(value) for value in values]

    return many


def reals(convert: Convert, zero: float, beyond: float, is_single: bool = False) -> Many:
    """Floating-point numbers between ``zero`` and ``beyond``, either excluded, or their negatives;
    ``is_single``: as 4 bytes hold them.
    """

    def many(values: Sequence[bytes]) -> list[Any]:
        if max(map(len, values)) <= _MOST_REAL and _lines(_NUMBERS, values):
            numbers = list(map(float, values))
            if -beyond < min(numbers) and max(numbers) < beyond:
                kept = array("f", numbers).tolist() if is_single else numbers
                return [
                    each if abs(number) > zero else convert(value)
                    for each, number, value in zip(kept, numbers, values)
                ]
        return [convert(value) for value in values]

    return many


def _lines(pattern: Pattern[bytes], values: Sequence[bytes]) -> bytes:
    """Return the values as lines, if the pattern takes them all; else nothing."""
    lines = b"\n".join(values)
    # A value may be two lines itself.
    return lines if pattern.match(lines) and lines.count(b"\n") == len(values) - 1 else b""


def texts(convert: Convert, limit: int | None, byte_limit: int | None, empty: bool = True) -> Many:
    """UTF-8 texts up to so many characters and bytes, of which none holds NUL; ``empty``: they may be."""

    def many(values: Sequence[bytes]) -> list[Any]:
        try:
            strings = b"\0".join(values).decode().split("\0")
        except UnicodeDecodeError:
            strings = []
        # One more or less: some value holds NUL itself.
        if (
            len(strings) == len(values)
            and (limit is None or max(map(len, strings)) <= limit)
            and (byte_limit is None or max(map(len, values)) <= byte_limit)
            and (empty or "" not in strings)
        ):
            return strings
        return [convert(value) for value in values]

    return many


def blobs(convert: Convert, limit: int | None, exact: int | None) -> Many:
    """Bytes up to ``limit``, or of the length ``exact``."""

    def many(values: Sequence[bytes]) -> list[Any]:
        longest = max(map(len, values))
        if (limit is None or longest <= limit) and (
            exact is None or longest == exact == min(map(len, values))
        ):
            return list(values)
        return [convert(value) for value in values]

    return many


def known(convert: Convert, found: dict[bytes, Any]) -> Many:
    """Values of which each is one that is known, and stands for another that is not None."""

    def many(values: Sequence[bytes]) -> list[Any]:
        taken = list(map(found.get, values))
        return [convert(value) for value in values] if None in taken else taken

    return many
