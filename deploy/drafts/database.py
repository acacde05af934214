"""A draft of the tables that a database has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from connectors import Column, Connector, SchemaMismatch, Table
from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.handover import TABLE_NAME as HANDOVER
from connectors.bookkeeping.intents import TABLE_NAME as INTENTS
from connectors.bookkeeping.letters import TABLE_NAME as LETTERS
from connectors.triggers.base import FOLLOWER, OUTBOX
from connectors.triggers.sqlite import OWN
from connectors.values.types import NothingFits
from deploy.checks.findings import did_you_mean
from deploy.drafts.draft import Entry, LeftOut, Line, keys_of, parents_first
from deploy.output import CommandError
from gears.declaring.errors import TemplateError
from gears.declaring.mapping import is_text
from gears.declaring.template import Template

#: gearsync's own tables, and those in which tools that change schemas note what they did.
OURS = frozenset((CHECKPOINT, HANDOVER, INTENTS, LETTERS, OUTBOX, FOLLOWER, OWN))
OF_TOOLS = frozenset(
    (
        *("alembic_version", "django_migrations", "schema_migrations", "ar_internal_metadata"),
        *("flyway_schema_history", "databasechangelog", "databasechangeloglock"),
    )
)
#: Types whose values hold what else ends a part of a key.
_HAS_COLONS = re.compile("timestamp|datetime|time|interval|json|inet|cidr|macaddr", re.IGNORECASE)


class Unfit(Exception):
    """A table can't have a function. ``remedy`` says what to do about it."""

    NO_FIELD = (
        "all its columns are in the primary key or take no value, and a hash has at least one field",
        "add a column that a field can fill",
    )

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def tables_of(connector: Connector, wanted: Sequence[str]) -> list[str]:
    """Return the names of the tables to draft: those ``wanted``, or all but gearsync's own.

    Raises CommandError for one that is not there.
    """
    there = connector.table_names()
    for name in wanted:
        if name not in there:
            place = f"the schema {connector.schema}" if connector.schema else "the database"
            raise CommandError(f"there is no table {name} in {place}{did_you_mean(name, there)}.")
    return list(dict.fromkeys(wanted)) if wanted else [name for name in there if name not in OURS]


def draft(connector: Connector, wanted: Sequence[str]) -> tuple[list[Entry], list[LeftOut]]:
    """Return an entry for each of the tables ``wanted`` that can be synced, and the others with reasons.

    None wanted: all. Raises ConnectorError when the database can't be asked.
    """
    entries, left_out = [], []
    for name in tables_of(connector, wanted):
        if name in OF_TOOLS and name not in wanted:
            remedy = f"gearsync init with --table {name}, if you want it"
            left_out.append(LeftOut(name, "a tool notes there how it changed the schema", remedy))
            continue
        try:
            table = connector.table(name)
            entries.append(entry_of(table, connector.schema))
        except SchemaMismatch as error:
            left_out.append(LeftOut(name, str(error), _remedy(str(error), name, connector.backend)))
        except Unfit as error:
            left_out.append(LeftOut(name, str(error), error.remedy))
    return parents_first(entries), left_out


def entry_of(table: Table, schema: str | None, keys: str | None = None) -> Entry:
    """Return the function of a table, with the key template ``keys`` or else the usual one. Raises Unfit."""
    if table.unwritable:
        raise Unfit(table.unwritable)
    last = table.columns[table.primary_key[-1]]
    keys = keys or keys_of(table.name, table.primary_key, bool(_HAS_COLONS.match(last.type_text)))
    check_names(table.name, table.columns, keys, table.primary_key)
    check_key(name for name in table.primary_key if table.columns[name].computed)
    entry = Entry(keys, table.name, [], schema, parents=table.parents - {table.name})
    entry.describe(", ".join(_described(table, column, is_key=True) for column in table.primary_key))
    for name, column in table.columns.items():
        if not column.primary_key:
            _add(entry, table, name, column)
    if not entry.lines:
        raise Unfit(*Unfit.NO_FIELD)
    entry.comments += [f"Note: {each}." for each in table.warnings]
    return entry


def check_key(computed: Iterable[str]) -> None:
    """See that no column of a primary key is one of those that the database computes. Raises Unfit."""
    for name in computed:
        raise Unfit(f"the database computes the column {name} of its primary key, and takes no value for it")


def check_names(table: str, columns: Iterable[str], keys: str, primary_key: Sequence[str]) -> None:
    """See that a file of functions can name a table, its columns and its keys. Raises Unfit."""
    for name in (table, *columns):
        if not is_text(name) or not name.isprintable():
            raise Unfit(f"the name {name!r} can't be written in a file of functions", "rename it")
    try:
        names = Template(keys).names
    except TemplateError as error:
        raise Unfit(f"no key template can name its primary key: {error}", "rename the column") from error
    if set(names) != set(primary_key):
        # What ends in * is the rest of a key, under a name without it.
        raise Unfit(f"the key template {keys} would name other columns than its own", "rename the column")


def _add(entry: Entry, table: Table, name: str, column: Column) -> None:
    if column.computed:
        entry.asides.append(f"{name} ({column.type_text}) is left out: the database computes it.")
    elif isinstance(column.convert, NothingFits):
        reason = f"the column {name} ({column.type_text}) takes no value: {column.convert.reason}"
        if not column.nullable and not column.has_default:
            raise Unfit(f"{reason}; and it may not be NULL", "change its type, or give it a default")
        entry.asides.append(f"{name} is left out: {reason}.")
    else:
        entry.lines.append(Line(name, name, _described(table, name)))


def _described(table: Table, name: str, is_key: bool = False) -> str:
    """Say what a column takes: ``INTEGER, required, refers to persons.id``."""
    column = table.columns[name]
    words = [f"{name} {column.type_text}" if is_key else column.type_text]
    if not column.nullable and not is_key:
        words.append("not null" if column.has_default else "required")
    if column.default is not None and not is_key:
        words.append(f"default {column.default}")
    if (name,) in table.unique_sets:
        words.append("unique")
    if name in table.references:
        words.append(f"refers to {table.references[name]}")
    text = " ".join(", ".join(words).split())
    return text if len(text) <= 160 else f"{text[:159]}…"


def _remedy(reason: str, name: str, backend: str) -> str:
    if "no primary key" in reason:
        if backend == "sqlite":
            # Which adds none to a table that is there.
            return f"make it anew with a PRIMARY KEY, then gearsync init with --table {name}"
        return f"ALTER TABLE {name} ADD PRIMARY KEY (…), then gearsync init with --table {name}"
    return ""
