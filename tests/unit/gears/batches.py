"""Changes, functions and tables for tests of what the worker does between Redis and SQL, without either."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa

from connectors import Connector, RowOp
from connectors.tables import Column, Table
from connectors.values import types
from gears.applying.change import Change
from gears.applying.conversion import Converter
from gears.applying.pipeline import Batch
from gears.declaring.functions import Change as SeenChange
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template

#: What a new row holds in the columns that its hash lacks.
DEFAULTS: dict[str, Any] = {"name": "nobody", "age": None, "note": "empty"}
NOT_NULL = {"note"}
COLUMNS = tuple(DEFAULTS)

_ids = itertools.count(1)


def table(name: str = "persons") -> Table:
    """Return a table with the primary key id and COLUMNS; name and note have a default, note is NOT NULL."""
    text, number = types.text(8), types.integer(-(2**31), 2**31 - 1)
    columns = {
        "id": Column("id", sa.Integer(), "INTEGER", number, nullable=False, primary_key=True),
        "name": Column("name", sa.String(8), "VARCHAR(8)", text, has_default=True),
        "age": Column("age", sa.Integer(), "INTEGER", number),
        "note": Column("note", sa.String(8), "VARCHAR(8)", text, nullable=False, has_default=True),
    }
    return Table(name, columns, ("id",), [])


class Tables:
    """Stands for a connector where only its tables are asked for."""

    def table(self, name: str) -> Table:
        return table(name)


def converter(
    keys: str = "person:{id}",
    to: str = "persons",
    transform: Callable[[SeenChange], Any] | None = None,
    columns: Iterable[str] = COLUMNS,
    name: str = "",
    **policies: Any,
) -> Converter:
    """Return the converter of a function over ``keys`` whose fields are called as their columns."""
    mapping = Mapping(Template(keys), to, {column: column for column in columns}, **policies)
    function = Function(name or to, mapping, "reporting", "transform" if transform else None)
    return Converter(function, transform, cast("Connector", Tables()))


def change(op: str, key: str = "person:1", epoch: str = "1", **image: str) -> Change:
    """Return a change with the next id; ``epoch`` in hex, as in a lane."""
    fields = tuple(name.encode() for name in image)
    values = [value.encode() for value in image.values()]
    return Change(b"%d-0" % next(_ids), key.encode(), f"{op}{epoch}".encode(), fields, values)


def batch(changes: Sequence[Change], *converters: Converter) -> Batch:
    """Prepare a batch; without converters: with the plain one."""
    return Batch(changes, converters or [converter()])


Rows = dict[tuple[str, Any], dict[str, Any]]


def run(rows: Rows, operations: Iterable[RowOp]) -> None:
    """Do what RowOp says to ``rows``, which are (table, key) → column → value."""
    for row in operations:
        identity = (row.table, row.key)
        if row.kind == "clear":
            for each in [each for each in rows if each[0] == row.table]:
                del rows[each]
        elif row.kind == "delete":
            rows.pop(identity, None)
        else:
            if identity in rows:
                rows[identity].update((name, _emptied(name)) for name in row.nulls)
                rows[identity].update((name, DEFAULTS[name]) for name in row.defaults)
            else:
                rows[identity] = dict(DEFAULTS)
            written = dict(zip(row.columns, row.values))
            assert written.pop("id") == row.key[0]
            assert not [name for name in NOT_NULL if written.get(name, "") is None], "NULL into NOT NULL"
            rows[identity].update(written)


def _emptied(name: str) -> Any:
    return DEFAULTS[name] if name in NOT_NULL else None
