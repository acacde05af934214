"""Whether the tables of write-around functions have their triggers."""

from __future__ import annotations

from connectors import Connector, Table
from connectors.triggers import CURRENT, MISSING, triggers_of
from deploy.checks.findings import Findings
from gears.declaring.functions import Function


def check(function: Function, connector: Connector, table: Table, place: str, findings: Findings) -> None:
    """Warn of triggers that are missing or outdated, and of changes that they can't see.

    ``place`` is the file of the declarations.
    """
    triggers = triggers_of(connector)
    state = triggers.state(table)
    command = f"gearsync triggers {place} --apply"
    if state == MISSING:
        message = f"{table.name} has no triggers yet: nobody tells Redis which rows change; run `{command}`"
        if not triggers.are_seen_by_all:
            message += " (if they are there, this user lacks the right TRIGGER to see them)"
        findings.warn(message, function, "table")
    elif state != CURRENT:
        message = (
            f"the triggers of {table.name} are not those of this gearsync and this table; run `{command}`"
        )
        findings.warn(message, function, "table")
    for sentence in triggers.warnings_of(table):
        findings.warn(sentence, function, "table")
