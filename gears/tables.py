"""The table of a function as the database has it now."""

from __future__ import annotations

from connectors import Connector, SchemaMismatch, Table
from gears.functions import Function


def table_of(function: Function, connector: Connector) -> Table:
    """Return the table of a function. Raises SchemaMismatch when it lacks a column, or has another key."""
    mapping = function.mapping
    table = connector.table(mapping.table)
    wanted = [*mapping.primary_key, *mapping.written]
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise SchemaMismatch(
            f"table {mapping.table} has no column {', '.join(missing)}, which function "
            f"{function.name} needs; add it, or deploy a version without it"
        )
    if set(table.primary_key) != set(mapping.primary_key):
        raise SchemaMismatch(
            f"the primary key of table {mapping.table} is ({', '.join(table.primary_key)}), "
            f"but the keys of function {function.name} give ({', '.join(mapping.primary_key)})"
        )
    return table
