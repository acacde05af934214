"""How MySQL and MariaDB are asked for the columns that their driver would change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from connectors.values import texts
from connectors.values.texts import Encode, Text

# The driver makes Python's dates of them, and nothing of those that Python does not have.
_AS_TEXT = "CAST({} AS CHAR)"


def text_of(type_: Any) -> Text:
    """Return how a column of SQLAlchemy's ``type_`` is read."""
    if isinstance(type_, sa.DateTime):
        return Text(_AS_TEXT, texts.timestamp)
    if isinstance(type_, (sa.Date, sa.Time)):
        return Text(_AS_TEXT)
    if isinstance(type_, mysql.BIT):
        return Text("{} + 0")
    if isinstance(type_, sa.Float) and type_.scale is not None:
        return Text(_AS_TEXT, _fixed(type_.scale))
    if isinstance(type_, mysql.FLOAT) and (type_.precision or 0) <= 24:
        # As it is, it would be shown with six digits.
        return Text("{} + 0E0", texts.single)
    return texts.PLAIN


def _fixed(scale: int) -> Encode:
    """Return what writes a number with all its digits, as the server does of FLOAT(precision, scale)."""

    def encode(value: Any) -> bytes:
        return f"{value:.{scale}f}".encode() if isinstance(value, float) else texts.plain(value)

    return encode
