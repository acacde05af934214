"""The way back from SQL: the texts that hashes hold."""

from __future__ import annotations

import datetime
import struct
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.values import texts, times, types


@pytest.mark.parametrize(
    ("encode", "value", "expected"),
    [
        (texts.plain, 7, b"7"),
        (texts.plain, True, b"1"),
        (texts.plain, False, b"0"),
        (texts.plain, 0.1 + 0.2, b"0.30000000000000004"),
        (texts.plain, Decimal("0E-10"), b"0.0000000000"),
        (texts.plain, Decimal("1E+3"), b"1000"),
        (texts.plain, "ä", "ä".encode()),
        (texts.plain, b"\xff\0", b"\xff\0"),
        (texts.plain, bytearray(b"a"), b"a"),
        (texts.plain, datetime.datetime(2024, 1, 2, 3, 4, 5), b"2024-01-02T03:04:05"),
        (texts.plain, datetime.date(2024, 1, 2), b"2024-01-02"),
        (texts.plain, datetime.time(3, 4, 5, 500000), b"03:04:05.500000"),
        (texts.plain, uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (texts.plain, {"a": "ä"}, b'{"a": "\\u00e4"}'),
        (texts.truth, "true", b"1"),
        (texts.truth, "false", b"0"),
        (texts.timestamp, "2024-01-02 03:04:05.5", b"2024-01-02T03:04:05.500000"),
        (texts.timestamp, b"2024-01-02 03:04:05.000000", b"2024-01-02T03:04:05"),
        (texts.timestamp, "2024-01-02T03:04:05Z", b"2024-01-02T03:04:05Z"),
        (texts.timestamp, "2024-01-02 03:04:05+02", b"2024-01-02T03:04:05+02:00"),
        (texts.timestamp, "infinity", b"infinity"),
        (texts.timestamp, 1700000000, b"1700000000"),
        (texts.utc, "2024-01-02 03:04:05", b"2024-01-02T03:04:05+00:00"),
        (texts.utc, "0044-03-15 00:00:00 BC", b"0044-03-15 00:00:00 BC"),
        (texts.clock, "03:04:05.25-07", b"03:04:05.250000-07:00"),
        (texts.clock, "03:04:05", b"03:04:05"),
        (texts.single, 0.10000000149011612, b"0.1"),
        (texts.single, 16777216.0, b"16777216"),
        (texts.single, 7, b"7"),
    ],
)
def test_texts(encode: Any, value: object, expected: bytes) -> None:
    assert encode(value) == expected


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_single_is_read_again(value: float) -> None:
    text = texts.single(value)
    assert struct.pack("f", float(text)) == struct.pack("f", value) or value == 0
    assert len(text) <= 15


@given(st.datetimes(), st.sampled_from(["auto", "microseconds"]))
def test_a_timestamp_is_what_python_writes(value: datetime.datetime, precision: str) -> None:
    text = texts.timestamp(value.isoformat(" ", precision))
    assert text == value.isoformat().encode()
    assert times.timestamp(zone=False)(text) == value


@given(
    st.one_of(st.floats(allow_nan=False), st.integers(), st.decimals(allow_nan=False, allow_infinity=False))
)
def test_numbers_are_read_again(value: Any) -> None:
    convert = types.real(infinity=True) if isinstance(value, float) else types.numeric(None, None)
    assert convert(texts.plain(value)) == value
