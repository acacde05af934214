"""Whether a row has what its hash has: by value where databases write it otherwise, and never by a guess."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from connectors.checksums import Checksums, Form, moment, padded, truth
from connectors.tables import Column, Convert
from connectors.values import texts, times, types
from connectors.values.equal import same, stands_for_absent
from connectors.values.texts import Text

WHOLE = types.integer(-100, 100_000)


def column(
    convert: Convert, type_text: str = "", default: str | None = None, text: Text = texts.PLAIN
) -> Column:
    has_default = default is not None
    return Column("c", sa.Text(), type_text, convert, has_default=has_default, default=default, text=text)


@pytest.mark.parametrize(
    ("made", "given", "stored", "expected"),
    [
        (column(WHOLE), b"007", b"7", True),
        (column(WHOLE), b"8", b"7", False),
        (column(WHOLE), b"x", b"7", False),
        (column(WHOLE), 7, b"7", True),
        (column(types.numeric(10, 2)), b"12.5", b"12.50", True),
        (column(types.numeric(None, None, True)), b"nan", b"NaN", True),
        (column(types.boolean()), b"true", b"1", True),
        (column(types.boolean()), b"no", b"1", False),
        (column(types.real(types.SINGLE), "real"), b"0.123456789", b"0.12345679", True),
        (column(types.real(), "double precision"), b"0.123456789", b"0.12345679", False),
        (column(times.timestamp(True)), b"2024-01-31T10:00:00+02:00", b"2024-01-31T08:00:00+00:00", True),
        (column(times.timestamp(False)), b"0", b"1970-01-01T00:00:00", True),
        (column(types.json_text(), "jsonb"), b'{"b": 1, "a": [1.50]}', b'{"a": [1.5], "b": 1}', True),
        (column(types.json_text(), "jsonb"), b'{"a": 1}', b'{"a": true}', False),
        (column(types.json_text(), "json"), b"9007199254740993", b"9007199254740992", False),
        (column(types.text(), "character(4)"), b"ab  ", b"ab", True),
        (column(types.text(), "character varying(4)"), b"ab  ", b"ab", False),
        (column(types.text()), b"A", b"a", False),
    ],
)
def test_equal_as_values_of_the_column(made: Column, given: object, stored: bytes, expected: bool) -> None:
    assert same(made, given, stored) is expected


@pytest.mark.parametrize(
    ("default", "stored", "expected"),
    [
        (None, None, True),
        (None, b"1", False),
        ("7", b"7", True),
        ("7", b"8", False),
        ("'7'::character varying", b"7", True),
        ("(-5)", b"-5", True),
        ("NULL", b"7", False),
        ("nextval('s'::regclass)", b"7", True),
    ],
)
def test_an_absent_field_is_null_or_the_default(
    default: str | None, stored: bytes | None, expected: bool
) -> None:
    assert stands_for_absent(column(WHOLE, default=default), stored) is expected


PLAIN, SIZED = Form("{}", False), Form("{}", True)


@pytest.mark.parametrize(
    ("forms", "one", "other"),
    [
        ([SIZED, SIZED], [b"a:1", b"b"], [b"a", b"1:b"]),
        ([SIZED], [b""], [None]),
        ([SIZED, SIZED], [b"1:", b""], [b"", b"1:"]),
        ([PLAIN, PLAIN], [b"1", None], [None, b"1"]),
    ],
)
def test_different_rows_have_different_checksums(
    forms: list[Form], one: list[bytes | None], other: list[bytes | None]
) -> None:
    sums = Checksums(forms)
    assert sums.local([(1,)], [one]) != sums.local([(1,)], [other])


@pytest.mark.parametrize("value", [b"", b"1,2"])
def test_what_could_be_read_as_another_number_has_no_checksum(value: bytes) -> None:
    assert Checksums([PLAIN]).local([(1,)], [[value]]) is None


def test_fields_are_written_as_the_database_does() -> None:
    assert [padded(2)(each) for each in (b"1", b"1.5", b"1.50")] == [b"1.00", b"1.50", b"1.50"]
    assert padded(0)(b"1") == b"1"
    assert truth(b"1") == b"true"
    written = b"2024-01-31 10:00:00"
    for each in (b"2024-01-31T10:00:00Z", b"2024-01-31T10:00:00", b"2024-01-31T10:00:00+00:00", written):
        assert moment(each) == written
