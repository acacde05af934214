"""Write docs/configuration.md from signatures, docstrings and the options of gears.declaring.config."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import click

import gears
from connectors import Target
from deploy import reference
from deploy.cli import group
from gears.declaring import kinds, patterns
from gears.declaring.additions import MARKING, REST_BYTES
from gears.declaring.config import TARGET_OPTIONS
from gears.declaring.deployment import BACKLOG, SETTINGS, Deployment

HEAD = """\
# Configuration

This page is made from the code (`make docs`), and a test holds it current.

What goes where is declared in one file, in Python or in TOML (its name then ends in `.toml`). Both have the
same options. A whole file of each, and what the options are for, is in [the guide](guide.md#functions).
`gearsync check FILE` names each mistake with its line, and `gearsync deploy FILE` brings the file to Redis.
"""
DEPLOYMENT = """\
## The deployment

Keys at the top of `gearsync.toml`, and arguments of `deployment_settings(…)` in Python. `backlog` is a table
of three keys there, and a dict of them in Python.
"""
PARTS = {
    "source": ("path of a Python file", "none", "TOML alone: the file that holds the transforms."),
    "targets": ("tables `[targets.NAME]`", "must be given", "TOML alone: see [targets](#targets)."),
    "functions": ("tables `[[functions]]`", "must be given", "TOML alone: one table for each function."),
}
"""The keys at the top of a TOML file that are calls in Python."""
TARGETS = """\
## Targets

`Target(url, name=…, schema=…)` in Python, `[targets.NAME]` in TOML, where NAME is its name. A URL with a
password is stored neither in the file nor in Redis: it is looked up where the worker runs.
"""
VARIABLES = """\
## Environment variables

Each option of each command has a variable, which [the command line](cli.md) names beside it. Here are those
that several commands share, or that have a name of their own:
"""
OWN_VARIABLES = {
    "NAME of `env:NAME`": (
        "The URL of a target's database, in the environment of the worker: of Redis where the module runs "
        "it, else of `gearsync worker`; and of the commands that look into the database."
    ),
    "`GEARSYNC_REDIS_URL`": (
        "The URL of the shard's primary, for `python -m gears.worker`, a single worker. `gearsync worker` "
        "and the module set it for those that they start."
    ),
    "`GEARSYNC_LOG_FORMAT`": (
        "`console` or `json`: the form of a worker's log. In the environment of Redis for a worker that the "
        "module runs."
    ),
    "`GEARSYNC_WORKER_METRICS_LISTEN`": (
        "`HOST:PORT` where a worker serves its metrics, in the environment of Redis where the module runs it."
    ),
    "`GEARSYNC_DASHBOARD_TOKEN`": "The token of `gearsync dashboard --allow-changes`.",
    "`GEARSYNC_DEMO_URL`": "The URL of the server that `gearsync demo` uses instead of starting one.",
}
"""What is read from the environment beside the options of commands."""

_KINDS = (gears.WriteBehind, gears.WriteThrough, gears.ReadThrough, gears.WriteAround)
_NEEDED = ("keys", "table", "target", "url")
_TYPES = {
    "str": "text",
    "str | None": "text",
    "int": "whole number",
    "bool": "`true` or `false`",
    "Sequence[str] | None": "list of texts",
    "dict[str, str] | None": "table of texts",
    "dict[str, str] | Sequence[str]": "table of texts, or list of texts",
    "dict[str, Constant] | None": "table of texts, numbers, `true` and `false`",
    "Transform | None": "callable; in TOML its name in `source`",
    "Target": "`Target`; in TOML its name",
    "Target | None": "`Target`; in TOML its name",
}
_CHOICES = {
    **patterns.CHOICES,
    **dict.fromkeys(MARKING, ("delete", "keep", "mark")),
    "on_flush": ("delete", "keep"),
    "rest_bytes": REST_BYTES,
    "type": kinds.TYPES,
}
_TERM = re.compile(r"[a-z_]+(, [a-z_]+)*")


def text() -> str:
    """Return the page."""
    sections = [_deployment(), _targets(), *(_kind(each) for each in _KINDS), _variables()]
    return "\n".join([HEAD, *sections])


def meanings(described: object) -> dict[str, str]:
    """Return what the docstring says of each argument: its terms, each with the indented text below it."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in (inspect.getdoc(described) or "").split("\n"):
        if _TERM.fullmatch(line):
            names = line.split(", ")
        elif line and not line.startswith(" "):
            names = []
        elif line:
            found.update((name, f"{found.get(name, '')} {line.strip()}".strip()) for name in names)
    return found


def arguments(declaration: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a declaration, or of Target, by name."""
    parameters = inspect.signature(declaration).parameters
    return {name: each for name, each in parameters.items() if name != "self"}


def _deployment() -> str:
    said = meanings(Deployment)
    defaults = {each.name: each.default for each in dataclasses.fields(Deployment)}
    names = {"entries": "backlog_entries", "bytes": "backlog_bytes", "on_full": "on_full"}
    rows = []
    for key, (_, words) in SETTINGS.items():
        if key == "backlog":
            below = [(f"backlog.{each}", BACKLOG[each][1], names[each]) for each in BACKLOG]
            rows += [_row(key, form, _default(defaults[name]), said[name]) for key, form, name in below]
        else:
            default = {"name": "the name of the file", "requirements": "none"}.get(key) or _default(
                defaults[key]
            )
            rows.append(_row(key, words, default, said[key]))
    rows += [_row(name, *each) for name, each in PARTS.items()]
    return "\n".join([DEPLOYMENT, *_table("key"), *rows, ""])


def _targets() -> str:
    said = meanings(Target)
    given = arguments(Target)
    rows = [
        _row(name, _TYPES[given[name].annotation], _default_of(given[name]), said[name]) for name in given
    ]
    if not set(TARGET_OPTIONS) < set(given):
        raise ValueError(f"an option of targets in a file is none of Target's: {TARGET_OPTIONS}")
    return "\n".join([TARGETS, *_table("argument"), *rows, ""])


def _kind(declaration: type) -> str:
    kind = getattr(declaration, "kind")  # noqa: B009 - each of them has one, which type does not know
    common = meanings(gears.WriteBehind)
    said = {**common, **meanings(declaration)}
    head = [f"## {declaration.__name__}", "", f'In TOML a table `[[functions]]` with `kind = "{kind}"`.', ""]
    rows = []
    for name, each in arguments(declaration).items():
        shared = declaration is not gears.WriteBehind and said[name] == common.get(name)
        meaning = "As for [WriteBehind](#writebehind)." if shared else said[name]
        rows.append(_row(name, _form(name, each), _default_of(each), meaning))
    return "\n".join([*head, *_table("argument"), *rows, ""])


def _form(name: str, argument: inspect.Parameter) -> str:
    choices = _CHOICES.get(name)
    if choices:
        return " or ".join(f'`"{each}"`' for each in choices)
    return patterns.RANGES[name][2] if name in patterns.RANGES else _TYPES[argument.annotation]


def _variables() -> str:
    rows = [f"| {name} | {meaning} |" for name, meaning in OWN_VARIABLES.items()]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in _shared() if f"`{name}`" not in OWN_VARIABLES]
    return "\n".join([VARIABLES, "| variable | meaning |", "| --- | --- |", *rows, ""])


def _shared() -> Iterator[tuple[str, str]]:
    """Yield the variables that options name themselves, each once, with what the first option says."""
    seen = set()
    root = click.Context(group, info_name="gearsync", auto_envvar_prefix="GEARSYNC")
    for context in reference.commands(root):
        for option in context.command.params:
            if isinstance(option, click.Option) and option.envvar and option.envvar not in seen:
                seen.add(option.envvar)
                said = " ".join((option.help or "").split()).replace("|", "\\|")
                yield str(option.envvar), f"`{option.opts[0]}`: {said}"


def _table(first: str) -> list[str]:
    return [f"| {first} | type | default | meaning |", "| --- | --- | --- | --- |"]


def _row(name: str, form: str, default: str, meaning: str) -> str:
    shown = meaning.replace("``", "`").replace("|", "\\|")
    return f"| `{name}` | {form} | {default} | {shown[0].upper()}{shown[1:]} |"


def _default_of(argument: inspect.Parameter) -> str:
    return "must be given" if argument.name in _NEEDED else _default(argument.default)


def _default(value: Any) -> str:
    return "none" if value is None or value == () else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    click.echo(text(), nl=False)
