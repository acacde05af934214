"""Which table the hashes of a kind belong to: by names and columns, never against its primary key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from connectors import Column, ConversionError, Table
from connectors.values.types import NothingFits
from deploy.drafts import clusters
from deploy.drafts.draft import Entry, Line
from deploy.drafts.kinds import Profile
from deploy.drafts.samples import Kind
from deploy.output import counted

_IRREGULAR = {"people": "person", "children": "child", "men": "man", "women": "woman"}
#: Without a common name, so many of the fields must be columns, and no fewer than so many.
_SHARE = 0.8
_FEWEST = 3


class Match(NamedTuple):
    """A kind and its table: ``key`` are the columns of the key's parts, ``columns`` those of fields."""

    table: Table
    key: list[str]
    columns: dict[str, str]


def match(kind: Kind, tables: Iterable[Table]) -> Match | None:
    """Return the table that fits a kind best; None: none does."""
    best: tuple[tuple[bool, float], Match] | None = None
    for table in tables:
        found = _fitting(kind, table)
        if found is None:
            continue
        share = len(found.columns) / len(kind.fields)
        is_named = _is_named(kind, table.name)
        fits = is_named or (share >= _SHARE and len(found.columns) >= _FEWEST)
        if fits and (best is None or (is_named, share) > best[0]):
            best = (is_named, share), found
    return None if best is None else best[1]


def entry_of(kind: Kind, found: Match, schema: str | None, db: int) -> Entry:
    """Return the function of a kind over the table that fits it."""
    table = found.table
    keys = clusters.template(kind.parts, found.key)
    entry = Entry(keys, table.name, [], schema, db, parents=table.parents - {table.name})
    entry.comments.append(f"{table.name}: of {counted(kind.keys, 'sampled hash', 'sampled hashes')}")
    if not _is_named(kind, table.name):
        entry.comments.append("Unsure: the fields fit this table, its name does not.")
    for name, column in zip(kind.names, found.key):
        problem = _misfits(kind.key_profiles[name], table.columns[column])
        if problem:
            entry.comments.append(f"Unsure: {column} in keys: {problem}.")
    for name, column in found.columns.items():
        entry.lines.append(Line(name, column, _note(kind, name, table.columns[column])))
    missing = sorted(set(kind.fields) - set(found.columns))
    entry.asides += kind.notes
    if missing:
        entry.asides.append(f"Fields without a column: {', '.join(missing)}.")
    return entry


def normal(name: str) -> str:
    """Return a name without what writing varies: case, underscores, and the plural."""
    plain = re.sub(r"[\W_]+", "", name).lower()
    plain = _IRREGULAR.get(plain, plain)
    for ending, one in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("s", "")):
        if plain.endswith(ending) and not plain.endswith("ss"):
            return plain[: -len(ending)] + one
    return plain


def _is_named(kind: Kind, table: str) -> bool:
    words = clusters.words_of(kind.parts)
    endings = {"".join(words[index:]) for index in range(len(words))}
    return normal(table) in {normal(each) for each in (*endings, *words[:1])}


def _fitting(kind: Kind, table: Table) -> Match | None:
    if len(kind.names) != len(table.primary_key):
        return None
    by_name = {normal(name): name for name in table.primary_key}
    named = [by_name.get(normal(name)) for name in kind.names]
    key = [each for each in named if each] if all(named) and len(set(named)) == len(named) else []
    columns = {normal(name): name for name, column in table.columns.items() if _takes_fields(column)}
    found: dict[str, str] = {}
    for name in kind.fields:
        column = name if name in columns.values() else columns.get(normal(name))
        if column is not None and column not in found.values():
            found[name] = column
    return Match(table, key or list(table.primary_key), found) if found else None


def _takes_fields(column: Column) -> bool:
    return not (column.primary_key or column.computed or isinstance(column.convert, NothingFits))


def _note(kind: Kind, name: str, column: Column) -> str:
    words = [column.type_text, *presence(kind, name)]
    problem = _misfits(kind.fields[name], column)
    return "; ".join([*words, f"unsure: {problem}"] if problem else words)


def presence(kind: Kind, name: str) -> list[str]:
    """Return a word on the share of hashes that have a field; none where all have it."""
    count = kind.fields[name].count
    return [] if count == kind.keys else [f"in {max(1, 100 * count // kind.keys)} % of the hashes"]


def _misfits(profile: Profile, column: Column) -> str:
    """Say how many of the values that were kept would be dead letters; empty: none."""
    count = 0
    reason = ""
    for value in sorted(profile.examples):
        try:
            column.convert(value)
        except ConversionError as error:
            count += 1
            reason = reason or str(error)
    return f"{count} of {len(profile.examples)} values tried do not fit: {reason}" if count else ""
