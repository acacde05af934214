"""Converters of dates and times: ISO 8601, and for timestamps seconds or milliseconds since 1970.

A number is read as **seconds** when it is below 100,000,000,000 (the year 5138), as **milliseconds** from
there to below 10,000,000,000,000 (from 1973 to 2286), and refused above. A whole number of 8, 12 or 14 digits
that could be a date run together (20240131, 202401311200) is refused as well: nobody can tell what was meant.

A timestamp without zone is UTC, and one with a zone becomes UTC where the column holds none.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

from connectors.errors import ConversionError
from connectors.tables import Convert
from connectors.values.types import as_bytes

_UTC = datetime.timezone.utc
_EPOCH = datetime.datetime(1970, 1, 1)
_SECONDS_BELOW = 10**11
_MILLISECONDS_BELOW = 10**13

_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
_ZONE = r"(?: ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?))?"
_ISO_DATE = re.compile(_DATE + r"\Z")
_ISO_TIME = re.compile(_TIME + _ZONE + r"\Z")
_ISO = re.compile(_DATE + r"(?:[Tt ]" + _TIME + _ZONE + r")?\Z")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,9})?\Z")
_RUN_TOGETHER = re.compile(
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{4}|[0-9]{6})?\Z"
)
_DURATION = re.compile(r"(-?)([0-9]{1,3}):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,9}))?)?\Z")


def timestamp(zone: bool, digits: int = 6) -> Convert:
    """Timestamps in UTC, aware when the column has a ``zone``; ``digits`` of a second's fraction fit."""
    step = 10 ** (6 - digits)

    def convert(value: object) -> Any:
        if value is None:
            return None
        moment = value if isinstance(value, datetime.datetime) else _moment(value)
        if moment.tzinfo is not None:
            moment = _in_utc(moment)
        if moment.microsecond % step:
            raise ConversionError(f"the time has more than {digits} digits of a second's fraction")
        return moment.replace(tzinfo=_UTC) if zone else moment

    return convert


def _moment(value: object) -> datetime.datetime:
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    string = _string(value, "timestamp")
    # The two common forms, which every Python reads alike.
    if len(string) in (19, 26) and string[4] == string[7] == "-" and string[10] in "T ":
        try:
            return datetime.datetime.fromisoformat(string)
        except ValueError:
            pass  # The strict way below says what is wrong.
    if _NUMBER.match(string):
        return _since_1970(string)
    found = _ISO.match(string)
    if not found:
        raise ConversionError("the value is no timestamp: ISO 8601, or seconds or milliseconds since 1970")
    fraction, zone = found.group(7, 8)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        raise ConversionError("the value is no timestamp: there is no such day or time") from None
    return moment.replace(microsecond=_microseconds(fraction), tzinfo=_zone(zone))


def _since_1970(string: str) -> datetime.datetime:
    if _RUN_TOGETHER.match(string):
        raise ConversionError("the number could be a date run together as well; write it as ISO 8601")
    number = Decimal(string)
    if abs(number) < _SECONDS_BELOW:
        number *= 1_000_000
    elif abs(number) < _MILLISECONDS_BELOW:
        number *= 1_000
    else:
        raise ConversionError("the number is too large for seconds or milliseconds since 1970")
    if number != number.to_integral_value():
        raise ConversionError("the time has more than 6 digits of a second's fraction")
    try:
        return _EPOCH + datetime.timedelta(microseconds=int(number))
    except OverflowError:
        raise ConversionError("the time is outside the years 1 to 9999") from None


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    try:
        return moment.astimezone(_UTC).replace(tzinfo=None)
    except OverflowError:
        raise ConversionError("the time in UTC is outside the years 1 to 9999") from None


def date() -> Convert:
    """Dates, also as a timestamp at midnight UTC."""

    def convert(value: object) -> Any:
        if value is None:
            return None
        if type(value) is datetime.date:
            return value
        if not isinstance(value, datetime.date):
            value = _string(value, "date")
            if _ISO_DATE.match(value):
                try:
                    return datetime.date(int(value[:4]), int(value[5:7]), int(value[8:]))
                except ValueError:
                    raise ConversionError("the value is no date: there is no such day") from None
            if not _ISO.match(value):
                raise ConversionError("the value is no date: YYYY-MM-DD")
        moment = timestamp(zone=False)(value)
        if moment.time() != datetime.time():
            raise ConversionError("the value has a time of day, the column holds a date only")
        return moment.date()

    return convert


def time(zone: bool, digits: int = 6) -> Convert:
    """Times of day; with a ``zone`` in the column a time without one is UTC."""
    step = 10 ** (6 - digits)

    def convert(value: object) -> Any:
        if value is None:
            return None
        moment = value if isinstance(value, datetime.time) else _time_of_day(value)
        if moment.microsecond % step:
            raise ConversionError(f"the time has more than {digits} digits of a second's fraction")
        if zone:
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=_UTC)
        if moment.tzinfo is not None:
            raise ConversionError("the time of day has a zone, and the column holds none")
        return moment

    return convert


def _time_of_day(value: object) -> datetime.time:
    found = _ISO_TIME.match(_string(value, "time of day"))
    if not found:
        raise ConversionError("the value is no time of day: HH:MM:SS")
    hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime.time(int(hour), int(minute), int(second or 0))
    except ValueError:
        raise ConversionError("the value is no time of day: there is no such time") from None
    return moment.replace(microsecond=_microseconds(fraction), tzinfo=_zone(zone))


def duration(digits: int = 0) -> Convert:
    """MySQL's TIME: hours up to 838, minutes and seconds, also negative; written as text."""

    def convert(value: object) -> Any:
        if value is None:
            return None
        string = str(value) if isinstance(value, datetime.time) else _string(value, "time")
        found = _DURATION.match(string)
        if not found or int(found.group(2)) > 838:
            raise ConversionError("the value is no time between -838:59:59 and 838:59:59")
        sign, hours, minutes, seconds, fraction = found.groups()
        kept = (fraction or "").rstrip("0")
        if len(kept) > digits:
            raise ConversionError(f"the time has more than {digits} digits of a second's fraction")
        # All digits, as the database writes it: of a key there must be one form.
        rest = f".{kept.ljust(digits, '0')}" if digits else ""
        return f"{sign}{int(hours):02}:{minutes}:{seconds or '00'}{rest}"

    return convert


def _string(value: object, kind: str) -> str:
    try:
        return as_bytes(value, kind).decode("ascii")
    except UnicodeDecodeError:
        raise ConversionError(f"the value is no {kind}") from None


def _microseconds(fraction: str | None) -> int:
    if not fraction:
        return 0
    if fraction[6:].strip("0"):
        raise ConversionError("the time has more than 6 digits of a second's fraction")
    return int(fraction[:6].ljust(6, "0"))


def _zone(text: str | None) -> datetime.timezone | None:
    if not text:
        return None
    if text in "Zz":
        return _UTC
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 15 or minutes > 59:
        raise ConversionError("the value has a zone that does not exist")
    offset = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-offset if text[0] == "-" else offset)
