"""Rows as the literals of a statement of MySQL or MariaDB."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Iterator, Sequence

from pymysql.converters import escape_string

from connectors.errors import Refused


def row_texts(columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return each row as ``(literal,literal,…)``; the literals are made a column at a time."""
    templates, literals = zip(*map(_literals, columns))
    return list(map(f"({','.join(templates)})".__mod__, zip(*literals)))


def _literals(values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return how a row's text holds a value of this column, and the values for it."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return "%d", values
    if kinds == {str}:
        return "'%s'", [_escaped(value) for value in values] if _needs_escape(values) else values
    return "%s", [_literal(value) for value in values]


def _needs_escape(values: Sequence[str]) -> bool:
    joined = "".join(values)
    return "\\" in joined or "'" in joined


def _escaped(text: str) -> str:
    """Escape as the driver does when it binds a parameter."""
    return str(escape_string(text))


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, Decimal):
        return format(value, "f")
    return f"'{_escaped(str(value))}'"


def parts(texts: list[str], room: int) -> Iterator[str]:
    """Join row texts by commas into parts of at most ``room`` bytes."""
    whole = ",".join(texts)
    if len(whole) * 4 <= room or len(whole.encode()) <= room:
        yield whole
        return
    part: list[str] = []
    used = 0
    for text in texts:
        size = len(text.encode()) + 1
        if size > room:
            raise Refused(
                f"the row has {size} bytes in SQL, and the server's max_allowed_packet leaves {room}"
            )
        if used + size > room:
            yield ",".join(part)
            part, used = [], 0
        part.append(text)
        used += size
    yield ",".join(part)
