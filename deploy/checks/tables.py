"""The SQL side of a plan: does each target answer, and do its tables fit the mappings."""

from __future__ import annotations

import os

from sqlalchemy.engine import URL

from connectors import Connector, ConnectorError, SchemaMismatch, Table, Target, TargetError, connect
from connectors.values.types import NothingFits
from deploy.checks import additions, triggers
from deploy.checks.findings import Findings, did_you_mean
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Around

_WORDS = {kinds.HASH: "a hash without the field", kinds.JSON: "a document without the path"}


def check(deployment: Deployment, place: str, findings: Findings) -> None:
    """Look at the table of each function in its database; ``place`` is the file of the declarations."""
    for name, target in deployment.targets.items():
        functions = [each for each in deployment.functions if each.target_name == name]
        url = resolve(target, place, findings)
        if url is None:
            continue
        connector: Connector | None = None
        try:
            connector = connect(url, target.schema)
            for function in functions:
                check_function(connector, function, place, findings)
        except ConnectorError as error:
            findings.mistake(f"the database can't be asked: {error}", option=f"target {name}", place=place)
        finally:
            if connector is not None:
                connector.close()


def resolve(target: Target, place: str, findings: Findings) -> URL | None:
    """Return where a target's reference leads; None, with a mistake, where no worker gets there."""
    option = f"target {target.name}"
    try:
        url = target.resolve()
    except TargetError as error:
        message = f"{error}. It must lead to a URL here, for this check, and where Redis runs, for the worker"
        findings.mistake(message, option=option, place=place)
        return None
    if url.get_backend_name() == "sqlite":
        path = url.database
        if not path or path == ":memory:":
            findings.mistake(
                "a SQLite database in memory is one of each process; name a file", option=option, place=place
            )
            return None
        if not path.startswith(("/", "file:")):
            message = (
                f"{path} is relative: the worker runs in another folder; write the whole path, sqlite:////…"
            )
            findings.mistake(message, option=option, place=place)
            return None
        if path.startswith("/") and not os.path.exists(path):
            # SQLite would make it.
            message = f"there is no file {path}; make the database, with its tables, where the worker runs"
            findings.mistake(message, option=option, place=place)
            return None
    return url


def check_function(connector: Connector, function: Function, place: str, findings: Findings) -> None:
    """Look at the table of one function; ``place`` is the file of the declarations."""
    name = function.mapping.table
    try:
        table = connector.table(name)
    except SchemaMismatch as error:
        others = [each for each in _table_names(connector) if each != name]
        hint = additions.make_it(function, connector.backend) or did_you_mean(name, others)
        if not hint and str(error).startswith("there is no table"):
            findings.lacks_tables = True
        findings.mistake(f"{error}{hint}", function, "table")
        return
    if function.mapping.additions.history:
        additions.check_history(function, table, connector.backend, findings)
    else:
        _check_primary_key(function, table, findings)
    _check_columns(function, table, connector.backend, findings)
    if function.captures:
        _check_left_out(function, table, findings)
        _check_taken(function, table, findings)
    if function.kind == Around.kind:
        triggers.check(function, connector, table, place, findings)
    for warning in table.warnings:
        findings.warn(warning, function, "table")


def _table_names(connector: Connector) -> list[str]:
    try:
        return connector.table_names()
    except ConnectorError:
        # The names only serve a suggestion beside a mistake that is reported anyway.
        return []


def _check_primary_key(function: Function, table: Table, findings: Findings) -> None:
    names = function.mapping.primary_key
    for name in names:
        if name not in table.columns:
            findings.mistake(
                f"the table {table.name} has no column {name}{did_you_mean(name, table.columns)}",
                function,
                "keys",
            )
        elif name not in table.primary_key:
            message = (
                f"the column {name} is not in the primary key of {table.name}, which is "
                f"({', '.join(table.primary_key)}); each {{name}} must be one of its columns"
            )
            findings.mistake(message, function, "keys")
    missing = [column for column in table.primary_key if column not in names]
    if missing and kinds.has_members(function.mapping.type):
        message = (
            f"the primary key of {table.name} is ({', '.join(table.primary_key)}), and rows of a "
            f"{function.mapping.type} are told by ({', '.join(names)}); they must be the same columns"
        )
        findings.mistake(message, function, "columns")
    elif missing:
        message = (
            f"the primary key of {table.name} is ({', '.join(table.primary_key)}), and the key template "
            "has no "
            f"{' and no '.join(f'{{{column}}}' for column in missing)}; a key must tell its row"
        )
        findings.mistake(message, function, "keys")


def _check_columns(function: Function, table: Table, backend: str, findings: Findings) -> None:
    for field, column in function.mapping.columns.items():
        if column not in table.columns:
            source = "" if field == column else f" (for the field {field})"
            hint = did_you_mean(column, table.columns)
            findings.mistake(
                f"the table {table.name} has no column {column}{source}{hint}", function, "columns"
            )
    additions.check(function, table, backend, findings)


def _check_taken(function: Function, table: Table, findings: Findings) -> None:
    """A table that takes no row, and a column that takes no value, whatever it is."""
    if table.unwritable:
        findings.mistake(table.unwritable, function, "table")
    for name in (*function.mapping.primary_key, *function.mapping.written):
        column = table.columns.get(name)
        if column is None:
            continue
        option = "keys" if name in function.mapping.primary_key else "columns"
        if column.computed:
            message = f"the database computes the column {name} of {table.name}, and takes no value for it"
            findings.mistake(message, function, option)
        elif isinstance(column.convert, NothingFits):
            message = f"the column {name} of {table.name} ({column.type_text}) takes no value: "
            findings.mistake(message + column.convert.reason, function, option)


def _check_left_out(function: Function, table: Table, findings: Findings) -> None:
    """A column that may not be NULL and has no default needs a value in every new row."""
    mapped = {*function.mapping.written, *function.mapping.primary_key}
    needy = [name for name, column in table.columns.items() if not column.nullable and not column.has_default]
    left_out = [name for name in needy if name not in mapped and not table.columns[name].primary_key]
    for name in left_out:
        message = (
            f"the column {name} of {table.name} is NOT NULL without a default and is not mapped, so no row "
            "could "
            "be added; map a field to it, or give it a default"
        )
        findings.mistake(message, function, "columns")
    needed = [field for field, column in function.mapping.columns.items() if column in needy]
    if needed and function.transform_name is None and function.mapping.type in _WORDS:
        one = len(needed) == 1
        message = (
            f"{_WORDS[function.mapping.type]}{'' if one else 's'} {', '.join(needed)} becomes a dead letter, "
            "because "
            f"{'its column is' if one else 'their columns are'} NOT NULL without a default"
        )
        findings.warn(message, function, "columns")
