"""The table of a function as the database has it now."""

from __future__ import annotations

from connectors import Connector, SchemaMismatch, Table
from gears.declaring.additions import AT, HISTORY_KEY
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping


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
    if mapping.additions.deleted_at and not table.columns[mapping.additions.deleted_at].nullable:
        raise SchemaMismatch(
            f"the column {mapping.additions.deleted_at} of {mapping.table} is NOT NULL, and must be NULL in "
            "the rows of keys that are there"
        )
    if mapping.additions.history:
        _require_history_key(function, table)
    elif set(table.primary_key) != set(mapping.primary_key):
        raise SchemaMismatch(
            f"the primary key of table {mapping.table} is ({', '.join(table.primary_key)}), "
            f"but the keys of function {function.name} give ({', '.join(mapping.primary_key)})"
        )
    return table


def history_key_problem(mapping: Mapping, table: Table) -> str:
    """Return what is wrong with the primary key of a table for a history; empty: nothing."""
    key = set(table.primary_key)
    if set(HISTORY_KEY) <= key <= {*HISTORY_KEY, AT, *mapping.primary_key}:
        return ""
    return (
        f"the primary key of table {mapping.table} is ({', '.join(table.primary_key)}), and must be "
        f"({', '.join(HISTORY_KEY)}), with {AT} and the columns of the key beside them where you like"
    )


def _require_history_key(function: Function, table: Table) -> None:
    problem = history_key_problem(function.mapping, table)
    if problem:
        raise SchemaMismatch(problem)
