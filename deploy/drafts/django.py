"""A draft of the models of a Django project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from deploy.checks.findings import did_you_mean
from deploy.drafts.database import Unfit, check_names
from deploy.drafts.draft import Entry, LeftOut, Line, keys_of, parents_first
from deploy.output import CommandError


def models_of(settings: ModuleType, wanted: Sequence[str]) -> list[Any]:
    """Set Django up by its settings, and return the models that have tables: those ``wanted``, or all.

    Raises CommandError.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = settings.__name__
    try:
        import django
        from django.apps import apps

        django.setup()
        every = apps.get_models(include_auto_created=True)
    except ImportError as error:
        raise CommandError(f"Django can't be set up: {error}.", "install what the project needs.") from error
    except Exception as error:
        # The project's own code, which may raise anything.
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CommandError(f"Django can't be set up by {settings.__name__}: {said}") from error
    models = {
        each._meta.db_table: each for each in every if each._meta.managed or each._meta.db_table in wanted
    }
    for name in wanted:
        if name not in models:
            raise CommandError(f"{settings.__name__} has no table {name}{did_you_mean(name, models)}.")
    return [model for name, model in models.items() if not wanted or name in wanted]


def draft(models: Iterable[Any], schema: str | None) -> tuple[list[Entry], list[LeftOut]]:
    """Return an entry for each model that can be synced, and the others with their reasons."""
    entries, left_out = [], []
    for model in models:
        try:
            entries.append(_entry(model._meta, schema))
        except Unfit as error:
            left_out.append(LeftOut(model._meta.db_table, str(error), error.remedy))
    return parents_first(entries), left_out


def _entry(meta: Any, schema: str | None) -> Entry:
    # Before Django 5.2 a key has one column.
    key = list(getattr(meta, "pk_fields", None) or [meta.pk])
    table = meta.db_table
    columns = [field for field in meta.concrete_fields if field.column]
    keys = keys_of(table, (field.column for field in key))
    check_names(table, [field.column for field in columns], keys, [field.column for field in key])
    parents = {field.remote_field.model._meta.db_table for field in columns if field.remote_field}
    entry = Entry(keys, table, [], schema, parents=frozenset(parents - {table}))
    entry.describe(", ".join(f"{field.column} {_type(field)}" for field in key))
    for field in columns:
        if getattr(field, "generated", False):
            entry.asides.append(f"{field.column} is left out: the database computes it.")
        elif field not in key:
            entry.lines.append(Line(field.column, field.column, _described(field)))
    if not entry.lines:
        raise Unfit(*Unfit.NO_FIELD)
    return entry


def _type(field: Any) -> str:
    from django.db import connection

    # Without a database in the settings there is no dialect either.
    return str(field.db_type(connection) or field.get_internal_type())


def _described(field: Any) -> str:
    words = [_type(field)]
    if not field.null:
        # Django's own defaults are made in Python; those of the database have a name of their own since 5.0.
        words.append("not null" if getattr(field, "_is_default_in_database", False) else "required")
    if field.unique:
        words.append("unique")
    if field.remote_field:
        words.append(f"refers to {field.remote_field.model._meta.db_table}")
    return ", ".join(words)
