"""Converters: the bytes of a hash field, or a Python value from a transform, to a value for a column.

Each factory returns a function that gives the value to write, or raises ConversionError: nothing is
truncated, rounded or guessed. None is NULL everywhere; an empty value is not, and fits texts and bytes only.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import struct
import uuid
from decimal import Decimal
from typing import Any, Iterable

from connectors.errors import ConversionError
from connectors.tables import Convert
from connectors.values import bulk

_INTEGER = re.compile(rb"[+-]?[0-9]+\Z")
# Their parts can't stand for the same digits, so that no value makes them slow.
_PLAIN = re.compile(rb"[+-]?([0-9]+)(?:\.([0-9]*))?\Z")
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?\Z")
_SPECIAL = re.compile(rb"(?:nan|[+-]?inf(?:inity)?)\Z", re.IGNORECASE)
_UUID = re.compile(rb"(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32})\Z", re.IGNORECASE)
_BOOLEANS = {b"1": True, b"true": True, b"t": True, b"yes": True}
_BOOLEANS.update({b"0": False, b"false": False, b"f": False, b"no": False})

#: The largest numbers of an IEEE 754 float of 4 and of 8 bytes.
SINGLE = 3.4028234663852886e38
DOUBLE = math.inf


def as_bytes(value: object, kind: str) -> bytes:
    """Return a text or number of Python as the bytes of a hash field; ``kind`` says what is wanted."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encoded(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 4000:
            raise ConversionError("the number is too large")
        return b"%d" % value
    if isinstance(value, Decimal):
        return str(value).encode()
    if isinstance(value, float):
        return repr(value).encode()
    raise ConversionError(f"a Python {type(value).__name__} is no {kind}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConversionError(
            f"the text holds half of a surrogate pair at character {error.start}, which is no UTF-8"
        ) from None


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConversionError(f"the value is no UTF-8 text: byte {error.start} does not fit") from None


def integer(low: int, high: int, booleans: bool = False) -> Convert:
    """Whole numbers from ``low`` to ``high``, written in digits; ``booleans``: true and false as well."""

    def convert(value: object) -> Any:
        if type(value) is not bytes:
            if value is None:
                return None
            value = _whole(value, booleans)
        if not value.isdigit() and not _INTEGER.match(value):
            if booleans and value.lower() in _BOOLEANS:
                return int(_BOOLEANS[value.lower()])
            raise ConversionError("the value is no whole number written in digits")
        number = int(value) if len(value) < 40 else _long(value)
        if low <= number <= high:
            return number
        raise ConversionError(f"the number is not between {low} and {high}")

    return bulk.with_many(convert, bulk.integers(convert, low, high))


def _long(digits: bytes) -> int:
    """Read as much of a number as tells whether it fits: Python is slow with very long ones, or refuses."""
    number = int(digits.lstrip(b"+-").lstrip(b"0")[:40] or b"0")
    return -number if digits.startswith(b"-") else number


def _whole(value: object, booleans: bool) -> bytes:
    if isinstance(value, bool):
        if booleans:
            return b"1" if value else b"0"
        raise ConversionError("a Python bool is no whole number")
    return as_bytes(value, "whole number")


def boolean() -> Convert:
    """1, true, t, yes and 0, false, f, no, in any case."""

    def convert(value: object) -> Any:
        if value is None or value is True or value is False:
            return value
        found = _BOOLEANS.get(as_bytes(value, "truth value").lower())
        if found is None:
            raise ConversionError("the value is no truth value: 1, true, t, yes, 0, false, f or no")
        return found

    return bulk.with_many(convert, bulk.known(convert, dict(_BOOLEANS)))


def numeric(precision: int | None, scale: int | None, nan: bool = False) -> Convert:
    """Decimal numbers of ``precision`` digits, ``scale`` of them after the point; None: any number.

    With a negative scale that many digits before the point are always 0.
    """
    whole = None if precision is None else precision - (scale or 0)
    decimals = scale if precision is None else scale or 0

    def convert(value: object) -> Any:
        if type(value) is not bytes:
            if value is None:
                return None
            value = as_bytes(value, "number")
        is_usual = (decimals is None or decimals >= 0) and (whole is None or whole >= 0)
        plain = _PLAIN.match(value) if is_usual else None
        if plain is not None:
            before, after = plain.groups(b"")
            _check_digits(len(before.lstrip(b"0")), len(after.rstrip(b"0")), whole, decimals)
            return Decimal(value.decode())
        if nan and value.lower() == b"nan":
            return Decimal("NaN")
        if not _NUMBER.match(value):
            raise ConversionError("the value is no decimal number")
        number = Decimal(value.decode())
        digits = bytes(number.as_tuple().digits).rstrip(b"\0")
        if not digits:
            # However many zeros its exponent stands for.
            return Decimal(0)
        _check_digits(number.adjusted() + 1, len(digits) - number.adjusted() - 1, whole, decimals)
        return number

    return bulk.with_many(convert, bulk.decimals(convert, whole, decimals))


def _check_digits(before: int, after: int, whole: int | None, decimals: int | None) -> None:
    if whole is not None and before > whole:
        raise ConversionError(f"the number has {before} digits before the point, {whole} fit")
    if decimals is not None and decimals < 0 and after > decimals:
        raise ConversionError(f"the last {-decimals} digits before the point must be 0")
    if decimals is not None and after > decimals:
        raise ConversionError(f"the number has {after} digits after the point, {decimals} fit")


def real(limit: float = DOUBLE, infinity: bool = False, nan: bool = False) -> Convert:
    """Floating-point numbers up to ``limit``; numbers too large, or too small to differ from 0, don't fit.

    With the limit SINGLE a number becomes what 4 bytes hold of it: by another one no row would be found.
    """
    is_single = limit == SINGLE
    # Half of the smallest number of the type: what is no larger rounds to 0.
    zero = 2.0**-150 if is_single else 0.0
    # What is smaller rounds to the limit: 3.4028235e+38, as databases write it, does.
    beyond = 2.0**128 - 2.0**103 if is_single else math.inf

    def convert(value: object) -> Any:
        if type(value) is not bytes:
            if value is None:
                return None
            value = as_bytes(value, "number")
        if not _NUMBER.match(value):
            return _special(value, infinity, nan)
        number = float(value)
        if abs(number) >= beyond:
            raise ConversionError("the number is too large for the column")
        if abs(number) > limit:
            return math.copysign(limit, number)
        if abs(number) <= zero and (number != 0 or re.search(rb"[1-9]", re.split(rb"[eE]", value)[0])):
            raise ConversionError("the number is too small for the column, it would become 0")
        return single(number) if is_single else number

    return bulk.with_many(convert, bulk.reals(convert, zero, min(beyond, limit), is_single))


def single(number: float) -> float:
    """Return what a float of 4 bytes holds of a number that is not beyond SINGLE."""
    kept: float = struct.unpack("f", struct.pack("f", number))[0]
    return kept


def fixed(precision: int, scale: int, is_single: bool) -> Convert:
    """The numbers of MySQL's FLOAT(precision, scale), or DOUBLE: floats that are shown as decimals.

    Digits that get lost in a float don't fit.
    """
    as_decimal = numeric(precision, scale)

    def convert(value: object) -> Any:
        wanted = as_decimal(value)
        if wanted is None:
            return None
        number = single(float(wanted)) if is_single else float(wanted)
        if Decimal(f"{number:.{scale}f}") != wanted:
            raise ConversionError("the number has more digits than a float of the column's size keeps")
        return number

    return convert


def _special(value: bytes, infinity: bool, nan: bool) -> float:
    if not _SPECIAL.match(value):
        raise ConversionError("the value is no number")
    number = float(value)
    if nan if math.isnan(number) else infinity:
        return number
    raise ConversionError("the column takes neither this infinity nor NaN")


def text(limit: int | None = None, byte_limit: int | None = None, nul: bool = True) -> Convert:
    """UTF-8 texts up to ``limit`` characters and ``byte_limit`` bytes; ``nul``: NUL characters fit."""

    def convert(value: object) -> Any:
        if type(value) is bytes:
            string = _decoded(value)
        elif value is None:
            return None
        else:
            string = _as_text(value)
        if limit is not None and len(string) > limit:
            raise ConversionError(f"the text has {len(string)} characters, {limit} fit")
        if not nul and "\0" in string:
            raise ConversionError("the text holds a NUL character, which the database can't store")
        if byte_limit is not None and len(string) * 4 > byte_limit:
            size = len(string.encode())
            if size > byte_limit:
                raise ConversionError(f"the text has {size} bytes, {byte_limit} fit")
        return string

    return bulk.with_many(convert, bulk.texts(convert, limit, byte_limit))


def _as_text(value: object) -> str:
    if isinstance(value, str):
        _encoded(value)
        return str(value)
    if isinstance(value, (uuid.UUID, datetime.date, datetime.time)):
        return str(value)
    return _decoded(as_bytes(value, "text"))


def binary(limit: int | None = None, exact: int | None = None) -> Convert:
    """Bytes as they are, up to ``limit``, or of the length ``exact`` where the database would pad them."""

    def convert(value: object) -> Any:
        if value is None:
            return None
        data = value if type(value) is bytes else as_bytes(value, "bytes")
        if limit is not None and len(data) > limit:
            raise ConversionError(f"the value has {len(data)} bytes, {limit} fit")
        if exact is not None and len(data) != exact:
            raise ConversionError(f"the value has {len(data)} bytes, the column holds exactly {exact}")
        return data

    return bulk.with_many(convert, bulk.blobs(convert, limit, exact))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Behind an escaped backslash the same letters are a text of their own.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Numbers are only looked at, not read: reading very long ones is slow or refused.
_JSON = json.JSONDecoder(parse_constant=_no_constant, parse_int=len, parse_float=len)


def _of_64_bits(digits: str) -> int:
    if not -(1 << 63) <= _long(digits.encode()) < 1 << 64:
        raise ConversionError(
            "the JSON document holds a whole number of more than 64 bits, which the database can't keep"
        )
    return 0


_JSON_OF_64_BITS = json.JSONDecoder(parse_constant=_no_constant, parse_int=_of_64_bits, parse_float=len)


def json_text(nul: bool = True, is_binary: bool = False) -> Convert:
    """JSON documents, kept as the text they are. Dicts, lists, numbers and bools of Python become JSON.

    ``nul``: the escape of the NUL character fits. ``is_binary``: as MySQL keeps them, whole numbers of 64
    bits; larger ones would become floats.
    """
    decoder = _JSON_OF_64_BITS if is_binary else _JSON

    def convert(value: object) -> Any:
        if value is None:
            return None
        is_python = isinstance(value, (dict, list, tuple, int, float))
        document = _dumped(value) if is_python else _decoded(as_bytes(value, "JSON document"))
        if is_binary or not is_python:
            try:
                decoder.decode(document)
            except ValueError:
                raise ConversionError("the value is no JSON document") from None
            except RecursionError:
                raise ConversionError("the JSON document is nested too deeply") from None
        if not nul and "\\u0000" in document and _NUL.search(document):
            raise ConversionError("the JSON document holds a NUL character, which the database can't store")
        return document

    return convert


def _dumped(value: object) -> str:
    try:
        document = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        raise ConversionError(f"the Python {type(value).__name__} can't be written as JSON") from None
    _encoded(document)
    return document


def uuid_text() -> Convert:
    """UUIDs, with or without hyphens; written in lower case with hyphens."""

    def convert(value: object) -> Any:
        if value is None:
            return None
        if isinstance(value, uuid.UUID):
            return str(value)
        data = as_bytes(value, "UUID")
        if not _UUID.match(data):
            raise ConversionError("the value is no UUID")
        return str(uuid.UUID(data.decode()))

    return convert


def choice(labels: Iterable[str]) -> Convert:
    """One of the labels of an enumeration, exactly as declared."""
    known = {label.encode(): label for label in labels}

    def convert(value: object) -> Any:
        if value is None:
            return None
        label = known.get(as_bytes(value, "label of the enumeration"))
        if label is None:
            raise ConversionError(f"the value is none of the enumeration's {len(known)} labels")
        return label

    return bulk.with_many(convert, bulk.known(convert, dict(known)))


def choices(labels: Iterable[str]) -> Convert:
    """Labels of a set, separated by commas; written in the order of their declaration, each once."""
    known = list(labels)

    def convert(value: object) -> Any:
        if value is None:
            return None
        given = _decoded(as_bytes(value, "set of labels"))
        wanted = set(given.split(",")) if given else set()
        if not wanted.issubset(known):
            raise ConversionError(f"the value holds what is none of the set's {len(known)} labels")
        return ",".join(label for label in known if label in wanted)

    return convert


def judged_by_database(nul: bool = True) -> Convert:
    """Texts of a type that gearsync does not know: the database accepts or refuses them."""
    as_text = text(nul=nul)

    def convert(value: object) -> Any:
        string = as_text(value)
        if string == "":
            raise ConversionError("the value is empty, which fits a text only")
        return string

    return bulk.with_many(convert, bulk.texts(convert, None, None, empty=False))


class NothingFits:
    """The converter of a column that takes no value, for ``reason``; only NULL fits."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, value: object) -> Any:
        if value is None:
            return None
        raise ConversionError(self.reason)


def refused(reason: str) -> Convert:
    """Nothing fits, for ``reason``; only NULL does."""
    return NothingFits(reason)
