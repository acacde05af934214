"""Writing rows by SQLAlchemy Core alone: what a database gets that has no faster way of its own."""

from __future__ import annotations

from typing import Any, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.rows import RowOp
from connectors.tables import Table


def upsert(
    connection: Connection,
    schema: str | None,
    table: Table,
    rows: Sequence[RowOp],
    absent: Sequence[tuple[str, str]],
) -> None:
    """Update the rows that exist and insert the others; all rows have the same columns.

    ``absent`` are pairs of a column and the SQL expression that an existing row gets in it.
    """
    names = rows[0].columns
    columns: dict[str, Any] = {name: sa.column(name) for name in [*names, *(name for name, _ in absent)]}
    target = sa.table(table.name, *columns.values(), schema=schema)
    values = [{f"v{index}": value for index, value in enumerate(row.values)} for row in rows]
    binds: dict[str, Any] = {name: sa.bindparam(f"v{index}") for index, name in enumerate(names)}
    this = sa.and_(*(columns[name] == binds[name] for name in table.primary_key))
    changes: dict[str, Any] = {name: bind for name, bind in binds.items() if name not in table.primary_key}
    changes.update({name: sa.literal_column(expression) for name, expression in absent})
    if not changes:
        first = table.primary_key[0]
        changes = {first: columns[first]}
    update = sa.update(target).where(this).values(changes)
    insert = sa.insert(target).values(binds)
    if connection.dialect.supports_sane_multi_rowcount:
        found = connection.execute(update, values).rowcount
        if found == len(values):
            return
        if found == 0:
            connection.execute(insert, values)
            return
    missing = [value for value in values if connection.execute(update, value).rowcount == 0]
    if missing:
        connection.execute(insert, missing)


def delete(connection: Connection, schema: str | None, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
    """Delete the rows with these primary keys."""
    columns: list[Any] = [sa.column(name) for name in table.primary_key]
    target = sa.table(table.name, *columns, schema=schema)
    this = sa.and_(*(column == sa.bindparam(f"v{index}") for index, column in enumerate(columns)))
    values = [{f"v{index}": value for index, value in enumerate(key)} for key in keys]
    connection.execute(sa.delete(target).where(this), values)


def clear(connection: Connection, schema: str | None, table: Table) -> None:
    """Delete all rows."""
    connection.execute(sa.delete(sa.table(table.name, schema=schema)))
