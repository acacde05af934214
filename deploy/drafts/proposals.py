"""A table for hashes that no table fits: its columns by what was sampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from deploy.drafts import clusters
from deploy.drafts.columns import Proposal, column_for, key_column_for
from deploy.drafts.draft import Entry, Line
from deploy.drafts.kinds import Profile
from deploy.drafts.matching import presence
from deploy.drafts.samples import Kind
from deploy.output import counted
from gears.declaring.mapping import is_text


def propose(
    kind: Kind, taken: Collection[str], schema: str | None, db: int, dialect: sa.engine.Dialect
) -> tuple[Entry, sa.Table]:
    """Return the function of a kind and its new table, whose name is none of those ``taken``."""
    name = _free("_".join(clusters.words_of(kind.parts))[:50], taken)
    columns: dict[str, str] = {}
    key = [f"key_{each}" if _is_field(each, kind) else each for each in kind.names]
    asides = list(kind.notes)
    for field in kind.fields:
        if is_text(field):
            columns[field] = _free(clusters.snake(field), [*key, *columns.values()])
        else:
            asides.append("A field whose name is no UTF-8 text is left out.")
    keys = dict(zip(key, kind.key_profiles.values()))
    table, notes = table_of(name, schema, keys, columns, kind.fields, dialect)
    entry = Entry(clusters.template(kind.parts, key), name, [], schema, db, asides=asides)
    entry.comments.append(
        f"{name}: a new table, of {counted(kind.keys, 'sampled hash', 'sampled hashes')}; make it with "
        "gearsync init --create-tables, or your own way. From the key "
        + ", ".join(f"{column} {notes[column]}" for column in key)
    )
    if kind.keys < 10:
        entry.comments.append("Unsure: so few hashes tell little.")
    for field, column in columns.items():
        words = [notes[column], *presence(kind, field)]
        entry.lines.append(Line(field, column, "; ".join(words)))
    return entry, table


def table_of(
    name: str,
    schema: str | None,
    keys: Mapping[str, Profile],
    columns: Mapping[str, str],
    fields: Mapping[str, Profile],
    dialect: sa.engine.Dialect,
) -> tuple[sa.Table, dict[str, str]]:
    """Return a table, and the type of each column with what is unsure about it.

    ``keys`` are the profiles of its primary key by their columns, ``columns`` the columns of fields.
    """
    notes: dict[str, str] = {}
    table = sa.Table(name, sa.MetaData(), schema=schema)
    for column, profile in keys.items():
        proposal = key_column_for(profile, dialect.name)
        # The value comes from the key: no sequence is wanted.
        table.append_column(sa.Column(column, proposal.type, primary_key=True, autoincrement=False))
        notes[column] = _said(proposal, dialect)
    for field, column in columns.items():
        proposal = column_for(fields.get(field, Profile()), field, dialect.name)
        table.append_column(sa.Column(column, proposal.type))
        notes[column] = _said(proposal, dialect)
    return table, notes


def _said(proposal: Proposal, dialect: sa.engine.Dialect) -> str:
    text = proposal.type.compile(dialect)
    return f"{text}; unsure: {proposal.doubt}" if proposal.doubt else str(text)


def _is_field(name: str, kind: Kind) -> bool:
    return any(clusters.snake(field) == name for field in kind.fields)


def _free(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken, in any case of its letters."""
    lower = {each.lower() for each in taken}
    number, free = 1, name
    while free.lower() in lower:
        number += 1
        free = f"{name}_{number}"
    return free
