"""Whether the columns that functions add to their rows are in the table, and take what they get."""

from __future__ import annotations

import sqlalchemy as sa

from connectors import Column, ConversionError, SchemaMismatch, Table
from deploy.checks import ddl
from deploy.checks.findings import Findings, did_you_mean
from gears.applying.added import document_of, moment_of
from gears.applying.tables import history_key_problem
from gears.declaring.additions import HISTORY
from gears.declaring.expressions import VALUE, Name
from gears.declaring.functions import Function


def check(function: Function, table: Table, backend: str, findings: Findings) -> None:
    """Add what is wrong between a function's additions and its table; ``backend`` is the kind of database."""
    additions = function.mapping.additions
    options = dict.fromkeys(additions.computed, "computed")
    options.update(dict.fromkeys(additions.constants, "constants"))
    options.update({additions.rest: "rest", additions.deleted_at: "deleted_at"})
    for name in additions.columns:
        option = options[name]
        column = table.columns.get(name)
        if column is None:
            sentence = f"the table {table.name} has no column {name}{did_you_mean(name, table.columns)}"
            statement = ddl.add_columns(function.mapping, [name], backend)
            findings.mistake(f"{sentence}; add it: {statement}" if statement else sentence, function, option)
        else:
            _check_column(function, option, column, findings)


def make_it(function: Function, backend: str) -> str:
    """Return the end of a sentence: the statement for a table of a history that is not there."""
    if not function.mapping.additions.history:
        return ""
    return f"; make it: {ddl.create_history(function.mapping, backend)}"


def check_history(function: Function, table: Table, backend: str, findings: Findings) -> None:
    """Add what keeps a table from being one of a history."""
    mapping = function.mapping
    missing = [name for name in (*mapping.primary_key, *HISTORY) if name not in table.columns]
    problem = history_key_problem(mapping, table)
    if missing:
        problem = f"the table {table.name} has no column {', '.join(missing)}, which a history needs"
    if problem:
        findings.mistake(f"{problem}{make_it(function, backend)}", function, "history")
    for name in (*mapping.columns.values(), *mapping.additions.computed):
        column = table.columns.get(name)
        if column is not None and not column.nullable:
            message = f"the column {name} of {table.name} is NOT NULL, and a deletion has nothing for it"
            findings.mistake(message, function, "history")


def _check_column(function: Function, option: str, column: Column, findings: Findings) -> None:
    if option == "rest":
        _check_rest(function, column, findings)
    elif option == "constants":
        _check_constant(function, column, findings)
    elif option == "computed":
        _check_computed(function, column, findings)
    else:
        _check_mark(function, column, findings)


def _check_rest(function: Function, column: Column, findings: Findings) -> None:
    try:
        column.convert(document_of({b"field": b"value"}, frozenset(), False))
    except ConversionError as error:
        message = f"the column {column.name} ({column.type_text}) can't hold a JSON object: {error}"
        findings.mistake(message, function, "rest")
        return
    length = getattr(column.type, "length", None)
    if isinstance(column.type, sa.String) and length:
        message = f"the column {column.name} holds {length} characters: a hash of more is a dead letter"
        findings.warn(message, function, "rest")


def _check_constant(function: Function, column: Column, findings: Findings) -> None:
    try:
        column.convert(function.mapping.additions.constants[column.name])
    except ConversionError as error:
        message = f"the constant does not fit the column {column.name}: {error}"
        findings.mistake(message, function, "constants")


def _check_computed(function: Function, column: Column, findings: Findings) -> None:
    expression = function.mapping.additions.computed[column.name]
    if expression.parts == (Name(VALUE, "time"),):
        _check_moment(function, column, "computed", findings)
    if expression.fields and not column.nullable:
        message = (
            f"the column {column.name} is NOT NULL, and a hash without {' or '.join(expression.fields)} has "
            "nothing for it: such a hash becomes a dead letter"
        )
        findings.warn(message, function, "computed")


def _check_mark(function: Function, column: Column, findings: Findings) -> None:
    if not column.nullable:
        message = f"the column {column.name} is NOT NULL, and must be NULL in the rows of keys that are there"
        findings.mistake(message, function, "deleted_at")
    if function.captures:
        _check_moment(function, column, "deleted_at", findings)


def _check_moment(function: Function, column: Column, option: str, findings: Findings) -> None:
    try:
        moment_of(column)
    except SchemaMismatch as error:
        findings.mistake(str(error), function, option)
