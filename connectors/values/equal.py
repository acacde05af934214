"""Whether what a hash has for a column is what its row has: equal bytes, or equal as values of the column."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

from connectors.errors import ConversionError
from connectors.tables import Column

_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:::[\w \"\[\]().,]+)?\Z", re.DOTALL)
_PLAIN = re.compile(r"\(?([+-]?[0-9]+(?:\.[0-9]+)?|true|false)\)?(?:::[\w \"().,]+)?\Z", re.IGNORECASE)
_NULL = re.compile(r"NULL(?:::[\w \"\[\]().,]+)?\Z", re.IGNORECASE)
_PADDED = re.compile(r"(?:char|character|bpchar|nchar)\b(?! varying)", re.IGNORECASE)


class Expression:
    """A default that is none of the constants: what it gave a row can't be known."""


EXPRESSION = Expression()


def same(column: Column, given: Any, stored: bytes) -> bool:
    """Return whether ``given`` (the bytes of a field, or a value for the column) is what a row has.

    ``stored`` is the text that reading the column gave. What the column does not take is in no row.
    """
    if given == stored:
        return True
    try:
        wanted, there = column.convert(given), column.convert(stored)
    except ConversionError:
        return False
    return wanted == there or _alike(column, wanted, there)


def refusal(column: Column, given: Any) -> str:
    """Return why the column does not take a value; empty: it does."""
    try:
        column.convert(given)
    except ConversionError as error:
        return str(error)
    return ""


def stands_for_absent(column: Column, stored: bytes | None) -> bool:
    """Return whether a row may have this for a field that the hash has not: NULL, or the default."""
    if stored is None:
        return True
    constant = default_of(column)
    if constant is EXPRESSION:
        return True
    return isinstance(constant, bytes) and same(column, constant, stored)


def default_of(column: Column) -> bytes | Expression | None:
    """Return the text of a column's default; None: it is NULL. ``EXPRESSION`` stands for all others."""
    if not column.has_default:
        return None
    text = (column.default or "").strip()
    quoted = _QUOTED.match(text)
    if quoted is not None and "\\" not in text:
        return quoted.group(1).replace("''", "'").encode()
    plain = _PLAIN.match(text)
    if plain is not None:
        return plain.group(1).encode()
    return None if _NULL.match(text) else EXPRESSION


def _alike(column: Column, wanted: Any, there: Any) -> bool:
    """Compare values that a database does not keep as they were written."""
    if isinstance(wanted, float) and isinstance(there, float):
        return math.isnan(wanted) and math.isnan(there)
    if isinstance(wanted, Decimal) and isinstance(there, Decimal):
        return wanted.is_nan() and there.is_nan()
    if not isinstance(wanted, str) or not isinstance(there, str):
        return False
    if column.type_text.lower() in ("json", "jsonb"):
        return bool(_document(wanted) == _document(there))
    return bool(_PADDED.match(column.type_text)) and wanted.rstrip(" ") == there.rstrip(" ")


def _document(text: str) -> Any:
    # In pairs with a letter, so that 1 is not true; databases keep a fraction's value, not its digits.
    return json.loads(text, parse_int=_whole, parse_float=_fraction)


def _whole(digits: str) -> tuple[str, Decimal]:
    return "n", Decimal(digits)


def _fraction(digits: str) -> tuple[str, Any]:
    number = float(digits)
    # What no float holds counts with its digits.
    return "n", Decimal(digits) if math.isinf(number) else number
