"""Rows that are marked as deleted instead of going: the statements that a table gets for that."""

from __future__ import annotations

from typing import Any, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.rows import Group
from connectors.tables import Table


def mark(connection: Connection, schema: str | None, table: Table, group: Group) -> None:
    """Mark the rows that exist; one that is marked already keeps its mark."""
    target, this, keys = _rows_of(schema, table, group)
    place: Any = sa.column(group.mark)
    values = [{**key, "marked": row.values[0]} for key, row in zip(keys, group.rows)]
    marked = sa.bindparam("marked", type_=sa.types.NullType())
    connection.execute(sa.update(target).where(this, place.is_(None)).values({group.mark: marked}), values)


def reset(
    connection: Connection,
    schema: str | None,
    table: Table,
    group: Group,
    defaults: Sequence[tuple[str, str]],
) -> None:
    """Give columns of the rows that are marked the SQL expressions in ``defaults``, for they begin anew."""
    target, this, keys = _rows_of(schema, table, group)
    place: Any = sa.column(group.mark)
    changes: Any = {name: sa.literal_column(expression) for name, expression in defaults}
    connection.execute(sa.update(target).where(this, place.is_not(None)).values(changes), keys)


def _rows_of(schema: str | None, table: Table, group: Group) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Return the table, the condition for one row, and its parameters for each row of the group."""
    key: list[Any] = [sa.column(name) for name in table.primary_key]
    others: list[Any] = [sa.column(name) for name in (group.mark, *group.resets)]
    target = sa.table(table.name, *key, *others, schema=schema)
    this = sa.and_(*(column == sa.bindparam(f"v{index}") for index, column in enumerate(key)))
    values = [{f"v{index}": value for index, value in enumerate(row.key)} for row in group.rows]
    return target, this, values
