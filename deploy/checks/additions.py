"""Whether the columns that functions add to their rows are in the table, and take what they get."""

from __future__ import annotations

import sqlalchemy as sa

from connectors import Column, ConversionError, SchemaMismatch, Table
from deploy.checks.findings import Findings, did_you_mean
from gears.added import document_of, moment_of
from gears.expressions import VALUE, Name
from gears.functions import Function


def check(function: Function, table: Table, findings: Findings) -> None:
    """Add what is wrong between a function's additions and its table."""
    additions = function.mapping.additions
    options = {additions.rest: "rest", **dict.fromkeys(additions.constants, "constants")}
    for name in additions.columns:
        option = options.get(name, "computed")
        column = table.columns.get(name)
        if column is None:
            hint = did_you_mean(name, table.columns)
            findings.mistake(f"the table {table.name} has no column {name}{hint}", function, option)
        elif option == "rest":
            _check_rest(function, column, findings)
        elif option == "constants":
            _check_constant(function, column, findings)
        else:
            _check_computed(function, column, findings)


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
        findings.mistake(
            f"the constant does not fit the column {column.name}: {error}", function, "constants"
        )


def _check_computed(function: Function, column: Column, findings: Findings) -> None:
    expression = function.mapping.additions.computed[column.name]
    if expression.parts == (Name(VALUE, "time"),):
        try:
            moment_of(column)
        except SchemaMismatch as error:
            findings.mistake(str(error), function, "computed")
    if expression.fields and not column.nullable:
        message = (
            f"the column {column.name} is NOT NULL, and a hash without {' or '.join(expression.fields)} has "
            "nothing for it: such a hash becomes a dead letter"
        )
        findings.warn(message, function, "computed")
