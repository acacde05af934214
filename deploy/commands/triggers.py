"""``gearsync triggers``: the SQL by which changes of rows reach Redis; printed, applied, or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from connectors import Connector, ConnectorError, Table, connect
from connectors.triggers import CURRENT, MISSING, Triggers, triggers_of
from deploy import output
from deploy.options import json_option
from deploy.output import CommandError
from deploy.progress import Progress
from gears.declaring import config
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.worker.following.session import functions_of


class _Made(NamedTuple):
    """What was looked at and done in one target: tables with their states before and now."""

    target: str
    tables: list[tuple[str, str, str]]
    statements: list[str]
    warnings: list[str]
    separator: str


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--apply", is_flag=True, help="Run it: make the triggers, or bring them up to date.")
@click.option("--drop", is_flag=True, help="Drop the triggers; with the last ones the outbox goes.")
@click.option("--target", metavar="NAME", help="Only those in this target.")
@json_option
def command(file: str, apply: bool, drop: bool, target: str | None, as_json: bool) -> None:
    """Print the SQL that the write-around functions in FILE need in their databases.

    It makes the outbox, and triggers that write down there which rows change. Apply it before the functions
    are deployed, as the owner of the tables: the worker needs no right to make anything.
    """
    if apply and drop:
        raise click.UsageError("--apply and --drop are opposites.")
    deployment = _load(file)
    names = [name for name in deployment.targets if functions_of(deployment, name)]
    if target is not None and target not in names:
        known = f"those that do are {', '.join(names)}" if names else "none does"
        raise CommandError(f"no write-around function in {file} has the target {target}; {known}.")
    made = []
    with Progress() as progress:
        for name in names if target is None else [target]:
            progress.show(f"Target {name}")
            made.append(_handle(deployment, name, apply, drop))
    if as_json:
        output.as_json({"targets": [_document(each) for each in made]})
    elif not made:
        output.line(f"No function in {file} is write-around: no table needs triggers.")
    elif not (apply or drop):
        _print_statements(made)
    else:
        _print_result(made)
    for each in made:
        for sentence in [] if as_json else each.warnings:
            output.warning(f"{each.target}: {sentence}.")


def _load(file: str) -> Deployment:
    try:
        return config.load(file)
    except DeclarationError as error:
        raise CommandError(str(error), f"`gearsync check {file}` shows all that is wrong.") from error


@contextmanager
def _connected(deployment: Deployment, name: str) -> Iterator[Connector]:
    connector: Connector | None = None
    target = deployment.targets[name]
    try:
        connector = connect(target.resolve(), target.schema)
        yield connector
    except ConnectorError as error:
        raise CommandError(f"target {name}: {error}.") from error
    finally:
        if connector is not None:
            connector.close()


def _handle(deployment: Deployment, name: str, apply: bool, drop: bool) -> _Made:
    wanted = list(dict.fromkeys(each.mapping.table for each in functions_of(deployment, name)))
    with _connected(deployment, name) as connector:
        triggers = triggers_of(connector)
        if drop:
            return _drop(triggers, name, wanted)
        tables = [connector.table(table) for table in wanted]
        before = [triggers.state(table) for table in tables]
        if apply:
            return _apply(triggers, name, tables, before)
        warnings = [sentence for table in tables for sentence in triggers.warnings_of(table)]
        states = [(table.name, state, state) for table, state in zip(tables, before)]
        return _Made(name, states, triggers.statements(tables), warnings, triggers.separator)


def _apply(triggers: Triggers, name: str, tables: list[Table], before: list[str]) -> _Made:
    late = [table for table, state in zip(tables, before) if state != CURRENT]
    statements = triggers.statements(late) if late else []
    triggers.run(statements)
    states = [(table.name, state, triggers.state(table)) for table, state in zip(tables, before)]
    warnings = [sentence for table in tables for sentence in triggers.warnings_of(table)]
    return _Made(name, states, statements, warnings, triggers.separator)


def _drop(triggers: Triggers, name: str, wanted: list[str]) -> _Made:
    before = triggers.names_of(wanted)
    statements = triggers.drops(wanted)
    triggers.run(statements)
    states = [(table, "there" if table in before else MISSING, "dropped") for table in wanted]
    return _Made(name, states, statements, [], triggers.separator)


def _print_statements(made: list[_Made]) -> None:
    for each in made:
        output.line(
            f"-- Target {each.target}: {', '.join(f'{name} ({now})' for name, _, now in each.tables)}"
        )
        if each.separator != ";":
            output.line(f"DELIMITER {each.separator}")
        for statement in each.statements:
            output.line(f"{statement}{each.separator}")
        if each.separator != ";":
            output.line("DELIMITER ;")


def _print_result(made: list[_Made]) -> None:
    rows = [(each.target, *states) for each in made for states in each.tables]
    output.table(("Target", "Table", "Triggers before", "Triggers now"), rows)


def _document(made: _Made) -> dict[str, Any]:
    return {
        "name": made.target,
        "tables": [{"table": table, "before": before, "now": now} for table, before, now in made.tables],
        "statements": made.statements,
        "warnings": made.warnings,
    }
