"""A file of functions as text, of the form that a user would write."""

from __future__ import annotations

import json
import keyword
import os
import textwrap
from collections.abc import Sequence

from connectors import Target
from deploy.migration.databases import Database
from deploy.migration.translation import Translation, Written
from deploy.output import shown

WIDTH = 100
_IMPORTS = ("Target", "WriteBehind", "WriteThrough")


def render(translation: Translation, recipe: str) -> str:
    """Return the text of functions.py for what was translated from the file ``recipe``."""
    targets = _targets(translation.functions)
    lines = [*_comment(f"Made by gearsync migrate from {os.path.basename(recipe)}, a recipe of rgsync.")]
    variables = variable_sentences(translation)
    if variables:
        lines += ["#", *_comment("The URLs of databases are in variables, set where the worker runs:")]
        lines += [line for each in variables for line in _comment(f"  {each}")]
    declared = ", ".join(sorted({each.declared for each in translation.functions}))
    lines += ["", "from connectors import Target", f"from gears import {declared}", ""]
    lines += [_target(name, database) for database, name in targets.items()]
    for refusal in translation.refusals:
        lines += ["", *_comment(refusal)]
    for function in translation.functions:
        lines += ["", *_function(function, targets[function.database], translation.operations)]
    return "\n".join(lines) + "\n"


def variable_sentences(translation: Translation) -> list[str]:
    """Return ``VARIABLE=form of its URL`` for each variable that the functions need."""
    found = {}
    for function in translation.functions:
        database = function.database
        if database.url:
            found[database.reference] = f"{database.reference[len('env:') :]}={database.url}"
    return list(found.values())


def _targets(functions: Sequence[Written]) -> dict[Database, str]:
    """Return the name that each database has in the text."""
    targets: dict[Database, str] = {}
    for function in functions:
        database = function.database
        if database in targets:
            continue
        name = database.name.replace("-", "_").removesuffix("_url")
        if not name.isidentifier() or keyword.iskeyword(name) or name in _IMPORTS:
            name = f"target_{name}"
        while name in targets.values():
            name += "_"
        targets[database] = name
    return targets


def _target(name: str, database: Database) -> str:
    arguments = [_quoted(database.reference)]
    if database.name != Target(database.reference).name:
        arguments.append(f"name={_quoted(database.name)}")
    if database.schema is not None:
        arguments.append(f"schema={_quoted(database.schema)}")
    return f"{name} = Target({', '.join(arguments)})"


def _function(function: Written, target: str, operations: bool) -> list[str]:
    lines = [line for each in function.comments for line in _comment(each)]
    lines.append(f"{function.declared}(")
    lines += [f"    keys={_quoted(function.keys)},", f"    table={_quoted(function.table)},"]
    lines += _columns(function.columns)
    lines += [f"    target={target},", f"    name={_quoted(function.name)},"]
    lines += [f"    {option}={_quoted(policy)}," for option, policy in function.options.items()]
    if operations:
        lines.append("    operations=True,")
    return [*lines, ")"]


def _columns(columns: dict[str, str]) -> list[str]:
    pairs = [f"{_quoted(field)}: {_quoted(column)}" for field, column in columns.items()]
    line = f"    columns={{{', '.join(pairs)}}},"
    if len(line) <= WIDTH:
        return [line]
    return ["    columns={", *(f"        {pair}," for pair in pairs), "    },"]


def _quoted(text: str) -> str:
    # What JSON escapes, Python reads in the same way.
    return shown(json.dumps(text, ensure_ascii=False))


def _comment(text: str) -> list[str]:
    indent = "#" + " " * (len(text) - len(text.lstrip()) + 1)
    text = " ".join(shown(text).split())
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
