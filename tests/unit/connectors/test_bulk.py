"""Values converted a column at a time are what the converter makes of each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import ConversionError, sqlite
from connectors.tables import Convert
from connectors.values import types
from connectors.values.bulk import many_of

CONVERTERS: dict[str, Convert] = {
    "integer": types.integer(-(2**15), 2**15 - 1),
    "flag": types.integer(0, 1, booleans=True),
    "boolean": types.boolean(),
    "any decimal": types.numeric(None, None, nan=True),
    "decimal": types.numeric(5, 2),
    "fraction": types.numeric(2, 2),
    "whole decimal": types.numeric(4, 0),
    "wide decimal": types.numeric(40, 10),
    "odd decimal": types.numeric(2, 4),
    "rounded decimal": types.numeric(3, -2),
    "double": types.real(infinity=True, nan=True),
    "single": types.real(types.SINGLE),
    "text": types.text(4),
    "short text": types.text(byte_limit=5, nul=False),
    "bytes": types.binary(3),
    "padded bytes": types.binary(exact=2),
    "choice": types.choice(["a", "1"]),
    "judged": types.judged_by_database(nul=False),
    "json": types.json_text(),
    "sqlite": sqlite._checked(types.numeric(30, 4), sqlite._as_sqlite),
}
WORDS = [
    *(b"", b"0", b"1", b"-1", b"+7", b"007", b"12.5", b"1.", b".5", b"-0.00", b"1e3", b"1e-400", b"1e400"),
    *(b"99999", b"1\n2", b"\n1", b"1\n", b"1\x002", b" 1", b"1_0", b"a", b"abcd", b"abcde", "ä€".encode()),
    *(
        b"\xff",
        b"\xc3",
        b"true",
        b"NaN",
        b"inf",
        b"3.4028235e38",
        b"1e-46",
        b"123456789012345678901234567890.5",
    ),
]


@pytest.mark.parametrize("kind", CONVERTERS)
@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.sampled_from(WORDS) | st.binary(max_size=5), min_size=1, max_size=6))
def test_a_column_is_what_its_values_are(kind: str, values: list[bytes]) -> None:
    convert = CONVERTERS[kind]

    def one_by_one() -> list[Any]:
        return [convert(value) for value in values]

    assert _outcome(lambda: many_of(convert)(values)) == _outcome(one_by_one)


@pytest.mark.parametrize("kind", CONVERTERS)
def test_each_value_alone(kind: str) -> None:
    convert = CONVERTERS[kind]
    for word in WORDS:
        assert _outcome(lambda: many_of(convert)([word])) == _outcome(lambda: [convert(word)])  # noqa: B023


def _outcome(made: Any) -> Any:
    try:
        # Decimals that are equal, and NaN, are told apart by how they are written.
        return [(type(value), repr(value)) for value in made()]
    except ConversionError as error:
        return str(error)
