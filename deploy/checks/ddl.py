"""The SQL for columns that a function adds to its rows, to be shown where a table lacks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateColumn, CreateTable

from gears.declaring import additions
from gears.declaring.expressions import VALUE, Name
from gears.declaring.mapping import Mapping

_MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=3), "mysql", "mariadb")
_NAME = sa.Text().with_variant(mysql.VARCHAR(255), "mysql", "mariadb")
_LANE = sa.String(255).with_variant(
    mysql.VARCHAR(255, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_OF_CONSTANTS: dict[type, sa.types.TypeEngine[Any]] = {
    str: _NAME,
    int: sa.BigInteger(),
    float: sa.Double(),
    bool: sa.Boolean(),
}
_HISTORY: dict[str, sa.types.TypeEngine[Any]] = {
    additions.LANE: _LANE,
    additions.EPOCH: sa.BigInteger(),
    additions.MS: sa.BigInteger(),
    additions.SEQ: sa.BigInteger(),
    additions.OP: sa.String(8),
    additions.AT: _MOMENT,
}


def add_columns(mapping: Mapping, names: Sequence[str], backend: str) -> str:
    """Return a statement for each of ``names`` whose type is clear, joined by blanks; may be empty.

    ``backend``: SQLAlchemy's name for the kind of database.
    """
    dialect = make_url(f"{backend}://").get_dialect()()
    table = dialect.identifier_preparer.quote(mapping.table)
    statements = []
    for name in names:
        type_ = _type_of(mapping, name)
        if type_ is not None:
            column = sa.Column(name, type_)
            sa.Table(mapping.table, sa.MetaData(), column)
            text = str(CreateColumn(column).compile(dialect=dialect))
            statements.append(f"ALTER TABLE {table} ADD COLUMN {text};")
    return " ".join(statements)


def create_history(mapping: Mapping, backend: str) -> str:
    """Return the statement that makes the table of a history; columns that fields fill are texts."""
    dialect = make_url(f"{backend}://").get_dialect()()
    columns = [sa.Column(name, _NAME) for name in mapping.primary_key]
    columns += [sa.Column(name, sa.Text()) for name in mapping.columns.values()]
    table = with_additions(sa.Table(mapping.table, sa.MetaData(), *columns), [mapping])
    return " ".join(str(CreateTable(table).compile(dialect=dialect)).split()) + ";"


def with_additions(table: sa.Table, mappings: Sequence[Mapping]) -> sa.Table:
    """Return the table with the columns that functions add; ``table`` has those of the key and of fields."""
    for mapping in mappings:
        if mapping.additions.history:
            return _as_history(table, mapping)
        for name in mapping.additions.columns:
            if name not in table.columns:
                table.append_column(sa.Column(name, _type_of(mapping, name)))
    return table


def _as_history(table: sa.Table, mapping: Mapping) -> sa.Table:
    columns = [
        sa.Column(each.name, each.type, nullable=each.name not in mapping.primary_key)
        for each in table.columns
    ]
    columns += [sa.Column(name, _type_of(mapping, name)) for name in mapping.additions.columns]
    columns += [
        sa.Column(name, type_, primary_key=name in additions.HISTORY_KEY, nullable=False, autoincrement=False)
        for name, type_ in _HISTORY.items()
    ]
    return sa.Table(table.name, sa.MetaData(), *columns, schema=table.schema)


def _type_of(mapping: Mapping, column: str) -> sa.types.TypeEngine[Any] | None:
    added = mapping.additions
    if added.history and column in _HISTORY:
        return _HISTORY[column]
    if column == added.rest:
        return _JSON
    if column in added.constants:
        return _OF_CONSTANTS[type(added.constants[column])]
    computed = added.computed.get(column)
    if column == added.deleted_at or (computed is not None and computed.parts == (Name(VALUE, "time"),)):
        return _MOMENT
    return None if computed is None else sa.Text()
