"""Drafts, and the tables that they need, from each of the places that tell what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import URL

from connectors import Connector, SchemaMismatch, Table, Target, TargetError, connect
from deploy.checks import ddl
from deploy.drafts import database, django, matching, models, proposals, sampling
from deploy.drafts.draft import Draft, parents_first
from deploy.drafts.kinds import Profile
from deploy.drafts.references import Reference, require_url
from deploy.drafts.samples import Hashes, kinds_of
from deploy.output import CommandError, counted
from deploy.reaching import shards as redis_shards
from gears.declaring import config
from gears.declaring import kinds as types
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.declaring.functions import Function

Show = Callable[[str], None]


@dataclass
class Sample:
    """Where to sample: the URL of Redis, and at most how many keys."""

    url: str = field(repr=False)
    most: int
    _taken: dict[int, Hashes] = field(default_factory=dict, repr=False)

    @property
    def db(self) -> int:
        """The number of the database that the URL names."""
        return sampling.database_of(self.url)

    def take(self, db: int, show: Show) -> Hashes:
        """Return the sampled hashes of a database of Redis. Raises CommandError."""
        if db not in self._taken:
            # Nothing has to run there yet.
            with redis_shards.connect(self.url, needs_host=False) as found:
                self._taken[db] = sampling.sample(found, db, self.most, show)
        return self._taken[db]


@dataclass
class Missing:
    """Tables that are missing in one database."""

    url: URL = field(repr=False)
    schema: str | None
    tables: list[sa.Table]


def of_database(reference: Reference, tables: Sequence[str], schema: str | None, show: Show) -> Draft:
    """Draft the tables of a database. Raises ConnectorError or CommandError."""
    connector = connect(require_url(reference), schema)
    try:
        show("Reading the tables")
        entries, left_out = database.draft(connector, tables)
    finally:
        connector.close()
    return Draft(reference, _in_schema(reference.title, schema), entries, left_out)


def of_models(reference: Reference, name: str, tables: Sequence[str], schema: str | None) -> Draft:
    """Draft the models of a Python module. Raises CommandError."""
    module = models.load(name)
    if models.is_django(module):
        entries, left_out = django.draft(django.models_of(module, tables), schema)
        return Draft(reference, f"the models of Django by {name}", entries, left_out)
    entries, left_out = models.draft(models.tables_of(module, tables, schema), schema, reference.url)
    return Draft(reference, f"the tables of SQLAlchemy in {name}", entries, left_out)


def missing_of_models(reference: Reference, name: str, tables: Sequence[str], schema: str | None) -> Missing:
    """Return the tables of a Python module that the database lacks. Raises ConnectorError or CommandError."""
    module = models.load(name)
    if models.is_django(module):
        raise CommandError("Django makes the tables of its models itself.", "python manage.py migrate.")
    url = require_url(reference)
    found = models.tables_of(module, tables, schema)
    there = {each: _names(url, each) for each in {table.schema for table in found}}
    return Missing(url, None, [table for table in found if table.name not in there[table.schema]])


def of_sample(
    reference: Reference, sample: Sample, tables: Sequence[str], schema: str | None, show: Show
) -> tuple[Draft, Missing]:
    """Draft functions for the hashes that Redis has, over tables that fit them or over new ones.

    Raises ConnectorError or CommandError.
    """
    url = require_url(reference)
    hashes = sample.take(sample.db, show)
    kinds, left_out = kinds_of(hashes)
    connector = connect(url, schema)
    try:
        show("Reading the tables")
        names = database.tables_of(connector, tables)
        fitting = _readable(connector, names)
        taken = set(connector.table_names())
    finally:
        connector.close()
    draft = Draft(
        reference, f"{counted(len(hashes), 'sampled hash', 'sampled hashes')} of Redis", [], left_out
    )
    missing = Missing(url, schema, [])
    for kind in kinds:
        found = matching.match(kind, fitting)
        if found is not None:
            fitting.remove(found.table)
            draft.entries.append(matching.entry_of(kind, found, schema, sample.db))
        else:
            entry, table = proposals.propose(kind, taken, schema, sample.db, url.get_dialect()())
            taken.add(table.name)
            draft.entries.append(entry)
            missing.tables.append(table)
    draft.entries = parents_first(draft.entries)
    if fitting:
        draft.comments.append(
            f"No sampled key fits these tables: {', '.join(table.name for table in fitting)}. gearsync init "
            "with --table NAME, and without --sample, writes a function for one."
        )
    return draft, missing


def of_file(file: str, url: URL | None, sample: Sample, show: Show) -> list[Missing]:
    """Return the tables that the functions in ``file`` lack, by what Redis has. ``url`` None: by its targets.

    Raises ConnectorError, TargetError or CommandError.
    """
    try:
        deployment = config.load(file)
    except DeclarationError as error:
        raise CommandError(str(error), f"gearsync check {file}.") from error
    if url is not None and len(deployment.targets) > 1:
        raise CommandError(f"{file} has several targets, which one URL can't be of.", "leave URL out.")
    every = []
    for name, target in deployment.targets.items():
        missing = Missing(url or _resolved(target), target.schema, [])
        there = _names(missing.url, target.schema)
        for table, functions in _lacking(deployment, name, there).items():
            missing.tables.append(_table_for(table, functions, missing, sample, show))
        every.append(missing)
    return [each for each in every if each.tables]


def _lacking(deployment: Deployment, target: str, there: Sequence[str]) -> dict[str, list[Function]]:
    found: dict[str, list[Function]] = {}
    for function in deployment.functions:
        if function.target_name == target and function.mapping.table not in there:
            found.setdefault(function.mapping.table, []).append(function)
    return found


_OF_MEMBERS = {types.LIST: {"index": b"0"}, types.ZSET: {"score": b"1e300"}}
"""What stands for all that Redis can have there: whole numbers, and those of double precision."""


def _table_for(
    name: str, functions: Sequence[Function], missing: Missing, sample: Sample, show: Show
) -> sa.Table:
    """Return the table that some functions write to, by the hashes that their keys cover."""
    first = functions[0].mapping
    keys = {column: Profile() for column in first.primary_key}
    columns: dict[str, str] = {}
    fields: dict[str, Profile] = {}
    for function in functions:
        mapping = function.mapping
        if set(mapping.primary_key) != set(keys):
            raise CommandError(
                f"the table {name} of {function.name} has another key than that of {functions[0].name}.",
                "make this table yourself.",
            )
        for source, column in mapping.columns.items():
            if column not in keys:
                columns.setdefault(column, column)
            profile = keys.get(column) or fields.setdefault(column, Profile())
            if source in _OF_MEMBERS.get(mapping.type, {}):
                profile.add(_OF_MEMBERS[mapping.type][source])
        for key, hash_ in sample.take(mapping.db, show).items():
            parts = mapping.keys.match(key)
            for column, part in zip(mapping.primary_key, parts or ()):
                keys[column].add(part)
            for raw, value in hash_.items() if parts else ():
                field_name = raw.decode("utf-8", "surrogateescape")
                if field_name in mapping.columns:
                    fields[mapping.columns[field_name]].add(value)
    made, _ = proposals.table_of(name, missing.schema, keys, columns, fields, missing.url.get_dialect()())
    return ddl.with_additions(made, [each.mapping for each in functions])


def _names(url: URL, schema: str | None) -> list[str]:
    connector = connect(url, schema)
    try:
        return connector.table_names()
    finally:
        connector.close()


def _readable(connector: Connector, names: Sequence[str]) -> list[Table]:
    tables = []
    for name in names:
        try:
            table = connector.table(name)
            database.entry_of(table, connector.schema)
            tables.append(table)
        except (SchemaMismatch, database.Unfit):
            # No function can have it; a draft without a sample says why.
            continue
    return tables


def _resolved(target: Target) -> URL:
    try:
        return target.resolve()
    except TargetError as error:
        raise CommandError(f"{error}.", "set it, or give the URL itself.") from error


def _in_schema(title: str, schema: str | None) -> str:
    return f"{title}, schema {schema}" if schema else title
