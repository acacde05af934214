"""What is inside of PostgreSQL's types: the limits of domains, and of what composite types and arrays hold.

A cast cuts a text, and rounds a number, to a type's limits without a word; an assignment refuses the text and
rounds the number all the same. So values go as the type without its limits, and what would be rounded is
refused here. Of a domain SQLAlchemy does not tell the limits.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

_QUERY = """
WITH RECURSIVE found(name, type, mod, domains, parts) AS (
    SELECT attname, atttypid, atttypmod, true, false FROM pg_attribute
    WHERE attrelid = CAST(CAST(%s AS text) AS regclass) AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT f.name, n.type, n.mod, f.domains AND t.typtype = 'd', f.parts OR t.typtype <> 'd'
    FROM found f JOIN pg_type t ON t.oid = f.type
    CROSS JOIN LATERAL (
        SELECT t.typbasetype, t.typtypmod WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem, f.mod WHERE t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0
        UNION ALL SELECT a.atttypid, a.atttypmod FROM pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) n(type, mod)
)
SELECT f.name, format_type(f.type, -1), format_type(f.type, f.mod), f.parts,
    t.typcategory <> 'A' AND t.typtype IN ('b', 'e') AND t.typdelim = ',',
    f.mod >= 0 AND f.type IN (1083, 1114, 1184, 1186, 1266, 1700)
FROM found f JOIN pg_type t ON t.oid = f.type WHERE t.typtype <> 'd'
"""
_LIMITS = re.compile(r"\(([0-9]+)(?:,(-?[0-9]+))?\)")


class Inside(NamedTuple):
    """What a column is when its domains are taken off: its type without limits and with them, whether there
    are arrays of it, and whether something that it holds has limits to which it would be rounded.
    """

    base: str
    full: str
    has_arrays: bool
    rounds: bool


def inside_of(connection: Connection, place: str) -> dict[str, Inside]:
    """Return what the columns of a table are. ``place``: its quoted name."""
    found: dict[str, Inside] = {}
    rounding: set[str] = set()
    for name, base, full, is_part, has_arrays, rounds in connection.exec_driver_sql(_QUERY, (place,)):
        if not is_part:
            # unnest() takes arrays of arrays apart whole; some types (box) part the elements otherwise.
            found[name] = Inside(base, full, has_arrays, False)
        elif rounds:
            rounding.add(name)
    return {name: each._replace(rounds=name in rounding) for name, each in found.items()}


def limited(type_: Any, full: str) -> Any:
    """Return the type of a domain with the limits that it has as ``full``, which SQLAlchemy left out."""
    while isinstance(type_, postgresql.DOMAIN):
        type_ = type_.data_type
    if full.endswith("]"):
        return postgresql.ARRAY(sa.String)
    limits: Sequence[Any] = next(iter(_LIMITS.findall(full)), ("", ""))
    first, second = (int(limit) if limit else None for limit in limits)
    if isinstance(type_, (sa.DateTime, sa.Time)):
        of = postgresql.TIMESTAMP if isinstance(type_, sa.DateTime) else postgresql.TIME
        return of(timezone=full.endswith("with time zone"), precision=first)
    if first is None or isinstance(type_, (sa.Enum, sa.Float)):
        return type_
    if isinstance(type_, sa.Numeric):
        return sa.Numeric(first, second or 0)
    if isinstance(type_, postgresql.INTERVAL):
        return postgresql.INTERVAL(precision=first)
    return sa.String(first) if isinstance(type_, sa.String) else type_
