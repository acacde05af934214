"""A plan as people read it, and as programs do."""

from __future__ import annotations

from typing import Any

from deploy import output
from deploy.rollout.plan import Plan
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.errors import Mistake


def function_rows(deployment: Deployment) -> list[tuple[object, ...]]:
    """Return a row for each function: name, kind, keys, target, table, and what of the hash goes to it."""
    rows: list[tuple[object, ...]] = []
    for function in deployment.functions:
        mapping = function.mapping
        keys = mapping.keys.text if mapping.db == 0 else f"{mapping.keys.text} (db {mapping.db})"
        columns = ", ".join(mapping.written)
        kind = function.kind if mapping.type == kinds.HASH else f"{function.kind} ({mapping.type})"
        rows.append((function.name, kind, keys, function.target_name, mapping.table, columns))
    return rows


FUNCTION_COLUMNS = ("Function", "Kind", "Keys", "Target", "Table", "Columns")


def print_functions(deployment: Deployment) -> None:
    """Print the table of what a deployment does."""
    output.table(FUNCTION_COLUMNS, function_rows(deployment), fold=("Keys", "Columns"))


def print_findings(plan: Plan) -> None:
    """Print mistakes, warnings, and what was not looked at, on standard output."""
    findings = plan.findings
    for what, found in (("mistake", findings.mistakes), ("warning", findings.warnings)):
        if found:
            output.line()
            output.heading(f"{counted(len(found), what)}:")
            output.bullets(str(each) for each in found)
    if findings.not_checked:
        output.line()
        for sentence in findings.not_checked:
            output.line(sentence)


def counted(count: int, word: str) -> str:
    """Return ``1 mistake``, ``2 mistakes``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def document(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    deployment = plan.deployment
    return {
        "ok": not plan.mistakes,
        "deployment": None if deployment is None else deployment.name,
        "functions": [] if deployment is None else function_documents(deployment),
        "mistakes": [_finding(each) for each in plan.findings.mistakes],
        "warnings": [_finding(each) for each in plan.findings.warnings],
        "not_checked": plan.findings.not_checked,
    }


def function_documents(deployment: Deployment) -> list[dict[str, Any]]:
    """Return what each function does as JSON values."""
    return [
        {
            "name": function.name,
            "kind": function.kind,
            "type": function.mapping.type,
            "keys": function.mapping.keys.text,
            "db": function.mapping.db,
            "target": function.target_name,
            "table": function.mapping.table,
            "columns": function.mapping.columns,
            "transform": function.transform_name,
            **function.mapping.additions.document(),
        }
        for function in deployment.functions
    ]


def _finding(mistake: Mistake) -> dict[str, str]:
    return dict(mistake._asdict())


def way_out(plan: Plan, file: str) -> str:
    """Return what helps with more than one of the mistakes; empty: nothing does."""
    if not plan.findings.lacks_tables:
        return ""
    command = f"gearsync init --from {file} --create-tables"
    return f"{command} prints the SQL of tables that are missing, by the hashes in Redis."
