"""``gearsync verify`` in this process, and what it says."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from deploy.cli import group
from tests.integration.system import System

Kinds = dict[str, tuple[Any, ...]]


def verify(system: System, *options: str, code: int | None = 0) -> dict[str, dict[str, Any]]:
    """Compare all functions of a system; return what is said of each, by its table.

    ``code``: the exit code; None: either of 0 and 1.
    """
    words = ["verify", system.functions, "--redis", system.server.url, "--json", "--timeout", "10", *options]
    with system.environment():
        # In this process: another Python takes longer than the comparison.
        done = CliRunner().invoke(group, words)
    assert done.exit_code == code or (code is None and done.exit_code in (0, 1)), done.output
    return {each["table"]: each for each in json.loads(done.stdout)}


def named(report: dict[str, Any]) -> Kinds:
    """Return the kind, columns, and rows of members that differ, by key."""
    return {
        each["key"]: (each["kind"], each["columns"], *([each["rows"]] if "rows" in each else []))
        for each in report["differences"]
    }


def drop_letters(system: System) -> None:
    """Delete all dead letters."""
    words = ["deadletters", "drop", "--redis", system.server.url, "--all", "--yes"]
    done = CliRunner().invoke(group, words)
    assert done.exit_code == 0, done.output
