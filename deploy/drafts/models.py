"""A draft of the tables that a Python module declares: SQLAlchemy's, or Django's by its settings."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Dialect

from deploy.checks.findings import did_you_mean
from deploy.drafts.database import Unfit, check_key, check_names
from deploy.drafts.draft import Entry, LeftOut, Line, keys_of, parents_first
from deploy.output import CommandError


def load(name: str) -> ModuleType:
    """Import a module, from the working folder too. Raises CommandError."""
    # As python -m does; what a project imports later is there too.
    sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # It is the user's own code, which may raise anything.
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "run gearsync where python can import it, with all that it needs installed."
        if type(error).__module__.startswith("django."):
            hint = "of Django give the settings module, as in DJANGO_SETTINGS_MODULE: --models site.settings."
        raise CommandError(f"{name} can't be imported: {said}", hint) from error


def is_django(module: ModuleType) -> bool:
    """Whether a module is the settings of a Django project."""
    return hasattr(module, "INSTALLED_APPS")


def metadata_of(module: ModuleType) -> list[sa.MetaData]:
    """Return what a module declares to SQLAlchemy, by MetaData, tables or classes. Raises CommandError."""
    found: dict[int, sa.MetaData] = {}
    for value in vars(module).values():
        metadata = value if isinstance(value, sa.MetaData) else getattr(value, "metadata", None)
        if isinstance(metadata, sa.MetaData) and metadata.tables:
            found[id(metadata)] = metadata
    if not found:
        raise CommandError(
            f"{module.__name__} has no tables: no MetaData, Table or declarative class that has some.",
            "name the module that declares the classes, or one that imports it; of Django the settings.",
        )
    return list(found.values())


def tables_of(module: ModuleType, wanted: Sequence[str], schema: str | None) -> list[sa.Table]:
    """Return the tables of a module: those ``wanted``, or all; of a ``schema``, if one is given.

    A table without a schema is in any. Raises CommandError.
    """
    tables = [table for metadata in metadata_of(module) for table in metadata.tables.values()]
    tables = [table for table in tables if schema is None or table.schema in (None, schema)]
    names = {table.name for table in tables}
    for name in wanted:
        if name not in names:
            raise CommandError(f"{module.__name__} has no table {name}{did_you_mean(name, names)}.")
    return [table for table in tables if not wanted or table.name in wanted]


def draft(
    tables: Sequence[sa.Table], schema: str | None, url: URL | None
) -> tuple[list[Entry], list[LeftOut]]:
    """Return an entry for each table that can be synced, and the others; ``url`` tells the types' dialect."""
    dialect: Dialect | None = url.get_dialect()() if url is not None else None
    entries, left_out = [], []
    for table in tables:
        try:
            entries.append(_entry(table, table.schema or schema, dialect))
        except Unfit as error:
            left_out.append(LeftOut(table.name, str(error), error.remedy))
    return parents_first(entries), left_out


def _entry(table: sa.Table, schema: str | None, dialect: Dialect | None) -> Entry:
    key = [column.name for column in table.primary_key.columns]
    if not key:
        raise Unfit("it has no primary key, so a key can't tell its row", "give it one")
    keys = keys_of(table.name, key)
    check_names(table.name, [column.name for column in table.columns], keys, key)
    check_key(column.name for column in table.primary_key.columns if column.computed is not None)
    parents = {each.column.table.name for each in table.foreign_keys}
    entry = Entry(keys, table.name, [], schema, parents=frozenset(parents - {table.name}))
    described = (_described(column, dialect, is_key=True) for column in table.primary_key.columns)
    entry.describe(", ".join(described))
    for column in table.columns:
        is_always = column.identity is not None and column.identity.always and not column.primary_key
        if column.computed is not None or is_always:
            entry.asides.append(f"{column.name} is left out: the database computes it.")
        elif not column.primary_key:
            entry.lines.append(Line(column.name, column.name, _described(column, dialect)))
    if not entry.lines:
        raise Unfit(*Unfit.NO_FIELD)
    return entry


def _described(column: sa.Column[Any], dialect: Dialect | None, is_key: bool = False) -> str:
    try:
        type_text = column.type.compile(dialect)
    except sa.exc.CompileError:
        # A type that this dialect lacks.
        type_text = repr(column.type)
    words = [f"{column.name} {type_text}" if is_key else type_text]
    if not column.nullable and not is_key:
        # A default that Python makes is none for a row that comes another way.
        words.append("required" if column.server_default is None else "not null")
    if column.unique:
        words.append("unique")
    words += [f"refers to {each.target_fullname}" for each in column.foreign_keys]
    return ", ".join(words)
