"""Converters: what fits a column and what is refused, and why."""

from __future__ import annotations

import datetime
import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import ConversionError
from connectors.values import times, types

UTC = datetime.timezone.utc
INT = types.integer(-(2**31), 2**31 - 1)
TINY = types.integer(-128, 127, booleans=True)
MONEY = types.numeric(5, 2)
ROUNDED = types.numeric(3, -2)
ANY_NUMBER = types.numeric(None, None, nan=True)
REAL = types.real()
SINGLE = types.real(types.SINGLE)
MOMENT = times.timestamp(zone=False)
ZONED = times.timestamp(zone=True)
SECONDS = times.timestamp(zone=False, digits=0)


def short(value: object) -> str:
    """Return a test's name for a value: some are a million bytes long."""
    return repr(value)[:20] if isinstance(value, (bytes, str)) else type(value).__name__


def moment(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (INT, b"36", 36),
        (INT, b"-2147483648", -(2**31)),
        (INT, b"+7", 7),
        (INT, b"007", 7),
        (INT, b"0" * 100_000 + b"7", 7),
        (INT, b"-" + b"0" * 100 + b"7", -7),
        (INT, b"+" + b"0" * 100, 0),
        (INT, 36, 36),
        (INT, "36", 36),
        (TINY, b"true", 1),
        (TINY, b"FALSE", 0),
        (TINY, True, 1),
        (types.integer(0, 2**64 - 1), b"18446744073709551615", 2**64 - 1),
        (types.boolean(), b"1", True),
        (types.boolean(), b"No", False),
        (types.boolean(), b"T", True),
        (types.boolean(), False, False),
        (types.boolean(), 0, False),
        (MONEY, b"123.45", Decimal("123.45")),
        (MONEY, b"-0001.5000", Decimal("-1.5")),
        (MONEY, b"1.5e2", Decimal(150)),
        (MONEY, b".5", Decimal("0.5")),
        (MONEY, b"1.", Decimal(1)),
        (MONEY, b"0e9", Decimal(0)),
        (MONEY, b"-0.00e999999", Decimal(0)),
        (MONEY, 1.25, Decimal("1.25")),
        (ROUNDED, b"-12300", Decimal(-12300)),
        (ROUNDED, b"0", Decimal(0)),
        (ROUNDED, b"99900.00", Decimal(99900)),
        (ROUNDED, b"1e2", Decimal(100)),
        (MONEY, Decimal("999.99"), Decimal("999.99")),
        (ANY_NUMBER, b"1e-30", Decimal("1e-30")),
        (
            ANY_NUMBER,
            b"12345678901234567890.123456789012345678901",
            Decimal("12345678901234567890.123456789012345678901"),
        ),
        (REAL, b"1e3", 1000.0),
        (types.numeric(3, 5), b"0.00123", Decimal("0.00123")),
        (SINGLE, b"1e-45", 2.0**-149),
        (SINGLE, b"-0e9", 0.0),
        (SINGLE, b"3.4028235e+38", types.SINGLE),
        (SINGLE, b"-3.4028235677973362e+38", -types.SINGLE),
        (REAL, b"-0.0", 0.0),
        (REAL, b"1.7976931348623157e308", 1.7976931348623157e308),
        (REAL, Decimal("0.5"), 0.5),
        (types.real(infinity=True), b"-Infinity", float("-inf")),
        (types.text(3), "süß".encode(), "süß"),
        (types.text(), b"", ""),
        (types.text(), 5, "5"),
        (types.text(), uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (types.text(), datetime.date(2024, 1, 2), "2024-01-02"),
        (types.text(byte_limit=6), "äää".encode(), "äää"),
        (types.binary(3), b"\x00\xff", b"\x00\xff"),
        (types.binary(exact=2), b"ab", b"ab"),
        (types.binary(), "ä", "ä".encode()),
        (types.json_text(), b' {"a": [1.50, NULL]} '.replace(b"NULL", b"null"), ' {"a": [1.50, null]} '),
        (types.json_text(), {"a": "ä"}, '{"a": "ä"}'),
        (types.json_text(), b"1" * 5000, "1" * 5000),
        (types.json_text(), True, "true"),
        (types.json_text(is_binary=True), b"[18446744073709551615, 1e99]", "[18446744073709551615, 1e99]"),
        (types.json_text(nul=False), rb'["\\u0000"]', r'["\\u0000"]'),
        (types.uuid_text(), b"AAAAAAAA00000000000000000000000A", "aaaaaaaa-0000-0000-0000-00000000000a"),
        (types.uuid_text(), uuid.UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
        (types.choice(["sad", "größe"]), "größe".encode(), "größe"),
        (types.choices(["a", "b", "c"]), b"c,a,c", "a,c"),
        (types.choices(["a"]), b"", ""),
        (types.judged_by_database(), b"(1,2)", "(1,2)"),
        (MOMENT, b"2024-01-02T03:04:05", moment(2024, 1, 2, 3, 4, 5)),
        (MOMENT, b"2024-01-02 03:04:05.123456", moment(2024, 1, 2, 3, 4, 5, 123456)),
        (MOMENT, b"2024-01-02T03:04:05.5Z", moment(2024, 1, 2, 3, 4, 5, 500000)),
        (MOMENT, b"2024-01-02T03:04+02:00", moment(2024, 1, 2, 1, 4)),
        (MOMENT, b"2024-01-02T03:04:05,123456000-0530", moment(2024, 1, 2, 8, 34, 5, 123456)),
        (MOMENT, b"2024-01-02", moment(2024, 1, 2)),
        (MOMENT, b"0", moment(1970, 1, 1)),
        (MOMENT, b"1700000000", moment(2023, 11, 14, 22, 13, 20)),
        (MOMENT, b"1700000000.25", moment(2023, 11, 14, 22, 13, 20, 250000)),
        (MOMENT, b"1700000000123", moment(2023, 11, 14, 22, 13, 20, 123000)),
        (MOMENT, b"-1", moment(1969, 12, 31, 23, 59, 59)),
        (MOMENT, 1700000000, moment(2023, 11, 14, 22, 13, 20)),
        (MOMENT, 1700000000.5, moment(2023, 11, 14, 22, 13, 20, 500000)),
        (MOMENT, datetime.date(2024, 1, 2), moment(2024, 1, 2)),
        (ZONED, b"2024-01-02T03:04:05", moment(2024, 1, 2, 3, 4, 5).replace(tzinfo=UTC)),
        (ZONED, b"2024-01-02T03:04:05+01", moment(2024, 1, 2, 2, 4, 5).replace(tzinfo=UTC)),
        (SECONDS, b"2024-01-02T03:04:05.000", moment(2024, 1, 2, 3, 4, 5)),
        (times.date(), b"2024-02-29", datetime.date(2024, 2, 29)),
        (times.date(), b"2024-02-29T00:00:00Z", datetime.date(2024, 2, 29)),
        (times.date(), datetime.datetime(2024, 2, 29), datetime.date(2024, 2, 29)),
        (times.time(zone=False), b"03:04", datetime.time(3, 4)),
        (times.time(zone=False), b"03:04:05.5", datetime.time(3, 4, 5, 500000)),
        (times.time(zone=True), b"03:04:05", datetime.time(3, 4, 5, tzinfo=UTC)),
        (times.duration(), b"-838:59:59", "-838:59:59"),
        (times.duration(2), b"1:02:03.5", "01:02:03.50"),
        (times.duration(), datetime.time(1, 2), "01:02:00"),
    ],
    ids=short,
)
def test_fits(convert: Any, value: object, expected: object) -> None:
    found = convert(value)
    assert found == expected
    assert type(found) is type(expected)
    assert convert(None) is None


@pytest.mark.parametrize(
    ("convert", "value", "reason"),
    [
        (INT, b"", "no whole number"),
        (INT, b"1_0", "no whole number"),
        (INT, b" 1", "no whole number"),
        (INT, b"1\n", "no whole number"),
        (INT, b"1.0", "no whole number"),
        (INT, b"1e3", "no whole number"),
        (INT, b"--1", "no whole number"),
        (INT, "٣".encode(), "no whole number"),
        (INT, b"true", "no whole number"),
        (INT, True, "bool"),
        (INT, 1.0, "no whole number"),
        (INT, b"2147483648", "not between"),
        (INT, b"9" * 100_000, "not between"),
        (INT, b"1" + b"0" * 40, "not between"),
        (INT, b"-7" + b"0" * 40 + b"1", "not between"),
        (INT, 10**5000, "too large"),
        (INT, [1], "list"),
        (TINY, b"yes!", "no whole number"),
        (types.boolean(), b"2", "no truth value"),
        (types.boolean(), b"", "no truth value"),
        (MONEY, b"", "no decimal"),
        (MONEY, b"1.234", "3 digits after"),
        (MONEY, b"1000", "4 digits before"),
        (MONEY, b"1e3", "4 digits before"),
        (MONEY, b"1e999999", "digits before"),
        (MONEY, b"1e9999999999", "no decimal"),
        (MONEY, b"1e-3", "3 digits after"),
        (MONEY, b"NaN", "no decimal"),
        (MONEY, b"1_0", "no decimal"),
        (MONEY, b" 1", "no decimal"),
        (MONEY, b"0" * 1_000_000 + b"x", "no decimal"),
        (MONEY, 0.1 + 0.2, "digits after"),
        (ROUNDED, b"12310", "the last 2 digits before the point must be 0"),
        (ROUNDED, b"100.5", "the last 2 digits"),
        (ROUNDED, b"100000", "6 digits before"),
        (ANY_NUMBER, b"Infinity", "no decimal"),
        (REAL, b"1e309", "too large"),
        (REAL, b"-1e309", "too large"),
        (REAL, b"1e-400", "too small"),
        (REAL, b"nan", "neither"),
        (REAL, b"inf", "neither"),
        (REAL, b"1_0.0", "no number"),
        (REAL, b"0x10", "no number"),
        (REAL, b"", "no number"),
        (REAL, b"1" * 1_000_000 + b"x", "no number"),
        (types.numeric(3, 5), b"0.0123", "before the point"),
        (SINGLE, b"1e39", "too large"),
        (SINGLE, b"3.4028235677973366e+38", "too large"),
        (SINGLE, b"-1e-46", "too small"),
        (types.text(3), b"abcd", "4 characters, 3 fit"),
        (types.text(byte_limit=5), "äää".encode(), "6 bytes, 5 fit"),
        (types.text(), b"ab\xffc", "byte 2"),
        (types.text(), "a\ud800", "character 1"),
        (types.text(nul=False), b"a\x00", "NUL"),
        (types.text(), True, "bool"),
        (types.text(), {}, "dict"),
        (types.binary(3), b"abcd", "4 bytes, 3 fit"),
        (types.binary(exact=3), b"ab", "exactly 3"),
        (types.json_text(), b"", "no JSON"),
        (types.json_text(is_binary=True), b'{"a": [18446744073709551616]}', "more than 64 bits"),
        (types.json_text(is_binary=True), b"-9223372036854775809", "more than 64 bits"),
        (types.json_text(is_binary=True), [10**50], "more than 64 bits"),
        (types.json_text(is_binary=True), b"NaN", "no JSON"),
        (types.json_text(), b"{'a': 1}", "no JSON"),
        (types.json_text(), b"NaN", "no JSON"),
        (types.json_text(), b'"\xff"', "UTF-8"),
        (types.json_text(), b"[" * 200_000, "JSON"),
        (types.json_text(), {"a": float("nan")}, "written as JSON"),
        (types.json_text(), {"a": object()}, "written as JSON"),
        (types.json_text(), ["\ud800"], "surrogate"),
        (types.json_text(nul=False), b'"\\u0000"', "NUL"),
        (types.json_text(nul=False), rb'"\\\u0000"', "NUL"),
        (types.uuid_text(), b"{AAAAAAAA-0000-0000-0000-00000000000A}", "no UUID"),
        (types.uuid_text(), b"", "no UUID"),
        (types.choice(["red"]), b"RED", "none of the enumeration's 1 labels"),
        (types.choice(["red"]), b"", "none of"),
        (types.choices(["a", "b"]), b"a,x", "none of the set's 2"),
        (types.judged_by_database(), b"", "empty"),
        (types.refused("no."), b"x", r"no\."),
        (MOMENT, b"", "no timestamp"),
        (MOMENT, b"today", "no timestamp"),
        (MOMENT, b"2024-13-01", "no such day"),
        (MOMENT, b"2023-02-29T00:00:00", "no such day"),
        (MOMENT, b"2024-01-02T24:00:00", "no such day or time"),
        (MOMENT, b"2024-01-02T23:59:60", "no such day or time"),
        (MOMENT, b"2024-W01-1T10:10:10", "no timestamp"),
        (MOMENT, b"2024-01-02T03:04:05.1234567", "6 digits"),
        (MOMENT, b"2024-01-02T03:04:05+99:00", "zone"),
        (MOMENT, b"0001-01-01T00:00:00+01:00", "outside"),
        (MOMENT, b"10000000000000", "too large"),
        (MOMENT, b"-99999999999", "outside"),
        (MOMENT, b"20240131", "run together"),
        (MOMENT, b"202401311200", "run together"),
        (MOMENT, b"1700000000.1234567", "6 digits"),
        (MOMENT, b"1e9", "no timestamp"),
        (MOMENT, "２０２４-01-02".encode(), "no timestamp"),
        (MOMENT, True, "bool"),
        (SECONDS, b"2024-01-02T03:04:05.5", "0 digits"),
        (times.timestamp(False, 3), b"2024-01-02T03:04:05.1234", "3 digits"),
        (times.date(), b"2024-02-30", "no such day"),
        (times.date(), b"2024-02-29T00:00:01", "time of day"),
        (times.date(), b"20240229", "no date"),
        (times.date(), b"1700000000", "no date"),
        (times.time(zone=False), b"25:00", "no such time"),
        (times.time(zone=False), b"03:04Z", "has a zone"),
        (times.time(zone=False), b"3", "no time"),
        (times.time(False, 0), b"03:04:05.5", "0 digits"),
        (times.duration(), b"839:00:00", "no time between"),
        (times.duration(), b"01:60:00", "no time between"),
        (times.duration(2), b"01:00:00.123", "2 digits"),
    ],
    ids=short,
)
def test_is_refused(convert: Any, value: object, reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        convert(value)


ALL = {
    "int": INT,
    "tiny": TINY,
    "boolean": types.boolean(),
    "money": MONEY,
    "number": ANY_NUMBER,
    "real": REAL,
    "text": types.text(5, 9, nul=False),
    "binary": types.binary(5),
    "json": types.json_text(),
    "uuid": types.uuid_text(),
    "choice": types.choice(["a"]),
    "choices": types.choices(["a", "b"]),
    "moment": MOMENT,
    "zoned": ZONED,
    "date": times.date(),
    "time": times.time(zone=False),
    "zoned time": times.time(zone=True),
    "duration": times.duration(6),
    "unknown": types.judged_by_database(),
}

_LIKELY = st.text("0123456789+-.:TZeE ,_/abNnif\0ä", max_size=30).map(str.encode)


@pytest.mark.parametrize("name", ALL)
@given(value=st.one_of(st.binary(max_size=40), _LIKELY, st.floats(), st.integers(), st.text(max_size=20)))
def test_any_value_fits_or_is_refused(name: str, value: object) -> None:
    """No other error can come out of a converter, and its reason never quotes the value."""
    try:
        ALL[name](value)
    except ConversionError as error:
        assert len(str(error)) < 120
        # A value of plain words may be words of the reason's own.
        if isinstance(value, str) and len(value) > 8 and not re.fullmatch("[A-Za-z ]+", value):
            assert value not in str(error)


@given(st.datetimes(), st.sampled_from("T "), st.sampled_from(["auto", "microseconds", "minutes"]))
def test_every_iso_form_of_a_timestamp(value: datetime.datetime, separator: str, precision: str) -> None:
    text = value.isoformat(separator, precision)
    assert MOMENT(text.encode()) == datetime.datetime.fromisoformat(text)
    assert MOMENT(text.encode() + b"Z") == datetime.datetime.fromisoformat(text)


@given(st.integers(-(10**11) // 2, 10**11 - 1))
def test_epoch_seconds_and_milliseconds_are_the_same_moment(seconds: int) -> None:
    try:
        found = MOMENT(b"%d" % seconds)
    except ConversionError as error:
        assert "run together" in str(error)
        return
    assert found == moment(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    if 10**11 <= abs(seconds * 1000) < 10**13:
        try:
            assert MOMENT(b"%d" % (seconds * 1000)) == found
        except ConversionError as error:
            assert "run together" in str(error)
