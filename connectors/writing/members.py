"""Keys of many members: all rows of one key are replaced in the batch's transaction.

What is there is compared with what is wanted, so that a row that stays is not written again, and columns that
the mapping leaves alone keep what they have.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

from sqlalchemy.engine import Connection

from connectors.errors import ConversionError, Refused
from connectors.rows import Group, RowOp
from connectors.tables import Column, Table

#: The most keys that one statement asks for.
KEYS_AT_ONCE = 200

Find = Callable[[Connection, Table, Sequence["tuple[Any, ...]"], Sequence[Column]], Sequence[Sequence[Any]]]


class Replacement:
    """How the rows of the keys of one group become others: ``gone`` are primary keys, ``written`` rows."""

    def __init__(self, table: Table, group: Group) -> None:
        self._table = table
        self._columns = group.columns
        self._width = len(group.rows[0].key)
        self._places = [group.columns.index(name) for name in table.primary_key]
        self.keys = [row.key for row in group.rows]
        self.wanted = {self._key_of(row): row for op in group.rows for row in op.members}
        self.gone: list[tuple[Any, ...]] = []
        self.written: list[RowOp] = []

    @property
    def table_of_keys(self) -> Table:
        """The table as if the keys of Redis alone told its rows."""
        return Table(self._table.name, self._table.columns, self._columns[: self._width], [])

    @property
    def columns(self) -> list[Column]:
        """The columns that are compared."""
        return [self._table.columns[name] for name in self._columns]

    def _key_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[at] for at in self._places)

    def compare(self, found: Sequence[Sequence[Any]]) -> None:
        """Take the rows that are there, as the database gives them."""
        there = {}
        for values in found:
            row = tuple(map(_converted, self.columns, values))
            there[self._key_of(row)] = row
        # A row may take over the unique value of one that goes, or changes.
        changes = bool(self._table.unique_sets)
        self.gone = [
            key
            for key, row in there.items()
            if key not in self.wanted or (changes and self.wanted[key] != row)
        ]
        self.written = [
            RowOp(self._table.name, "upsert", key, self._columns, row)
            for key, row in self.wanted.items()
            if there.get(key) != row
        ]

    @property
    def may_collide(self) -> bool:
        """Whether the database may take two of the keys for one, as A and a."""
        return any(isinstance(part, str) for row in self.written for part in row.key)


def _converted(column: Column, value: Any) -> Any:
    """Return a value of the database as the column converts it; as it is if it would not take it back."""
    if value is None:
        return None
    try:
        return column.convert(column.text.encode(value))
    except ConversionError:
        return value


def replace(
    connection: Connection,
    table: Table,
    group: Group,
    find: Find,
    delete: Callable[[Connection, Table, Sequence[Any]], None],
    upsert: Callable[[Connection, Table, Sequence[RowOp], Sequence[Any]], None],
) -> None:
    """Make the rows of each key of a group those that it has now, by what a connector does anyway.

    Raises Refused when the database takes two members of a key for one row.
    """
    work = Replacement(table, group)
    work.compare(_found(connection, work, find, work.columns))
    if work.gone:
        delete(connection, table, work.gone)
    if not work.written:
        return
    upsert(connection, table, work.written, ())
    if work.may_collide and len(_found(connection, work, find, ())) < len(work.wanted):
        raise Refused("two members are one row to the database, whose collation takes their texts for equal")


def _found(
    connection: Connection, work: Replacement, find: Find, columns: Sequence[Column]
) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for start in range(0, len(work.keys), KEYS_AT_ONCE):
        rows.extend(find(connection, work.table_of_keys, work.keys[start : start + KEYS_AT_ONCE], columns))
    return rows
