"""Tables as SQLAlchemy reflects them, and the converter of each of its types."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Inspector

from connectors.errors import SchemaMismatch
from connectors.tables import Convert, Table
from connectors.values import times, types


class Traits:
    """What a database's types take; a dialect sets what differs."""

    #: Texts may hold NUL characters.
    nul = True
    nan = False
    infinity = False
    #: Digits of a second's fraction where the type names none.
    second_digits = 6
    #: REAL is a float of 4 bytes.
    short_real = True


def converter(type_: Any, traits: Traits) -> Convert:
    """Return the converter of one of SQLAlchemy's own types; types it does not know are for the database."""
    if isinstance(type_, sa.Enum):
        return types.choice(type_.enums)
    if isinstance(type_, sa.Uuid):
        return types.uuid_text()
    if isinstance(type_, sa.JSON):
        return types.json_text(traits.nul)
    if isinstance(type_, sa.Boolean):
        return types.boolean()
    if isinstance(type_, sa.Integer):
        return _integer(type_)
    if isinstance(type_, (sa.Numeric, sa.Float)):
        return _number(type_, traits)
    if isinstance(type_, (sa.DateTime, sa.Time)):
        return _time(type_, traits)
    if isinstance(type_, sa.Date):
        return times.date()
    if isinstance(type_, sa.types._Binary):
        return types.binary(type_.length)
    if isinstance(type_, sa.String):
        return types.text(type_.length, nul=traits.nul)
    return types.judged_by_database(traits.nul)


def _integer(type_: Any) -> Convert:
    bits = 15 if isinstance(type_, sa.SmallInteger) else 63 if isinstance(type_, sa.BigInteger) else 31
    return types.integer(-(1 << bits), (1 << bits) - 1)


def _number(type_: Any, traits: Traits) -> Convert:
    if not isinstance(type_, sa.Float):
        return types.numeric(type_.precision, type_.scale, traits.nan)
    single = traits.short_real and isinstance(type_, sa.REAL)
    return types.real(types.SINGLE if single else types.DOUBLE, traits.infinity, traits.nan)


def _time(type_: Any, traits: Traits) -> Convert:
    digits = next(
        (getattr(type_, name) for name in ("precision", "fsp") if getattr(type_, name, None) is not None),
        traits.second_digits,
    )
    factory = times.timestamp if isinstance(type_, sa.DateTime) else times.time
    return factory(bool(type_.timezone), digits)


def shared_rows(column: str, collation: str) -> str:
    """Return the sentence about a column of the key that takes some different texts for one."""
    return (
        f"the primary-key column {column} has the collation {collation}, to which some different texts are "
        "equal (such as A and a): keys that differ so share one row, and the deletion of one deletes it: "
        "give the column a collation that tells them apart, or write keys in one case only"
    )


class Reflected:
    """One table as it was reflected: ``columns`` as SQLAlchemy's dictionaries, keys as names.

    ``true_name`` makes the name of a column of what SQLAlchemy takes for it.
    """

    def __init__(
        self, connection: Connection, name: str, schema: str | None, true_name: Callable[[str], str]
    ) -> None:
        inspector = sa.inspect(connection)
        with warnings.catch_warnings():
            # Of a type that SQLAlchemy does not know, the database judges the values.
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            try:
                self.columns = inspector.get_columns(name, schema)
                # SQLite finds the columns of a table whose name is written in another case, and no more.
                key = inspector.get_pk_constraint(name, schema)["constrained_columns"]
            except sa.exc.NoSuchTableError:
                raise SchemaMismatch(_missing(inspector, name, schema)) from None
        for type_ in (each["type"] for each in self.columns):
            if isinstance(type_, sa.String) and not isinstance(type_.collation, (str, type(None))):
                # SQLite takes VARCHAR(10,2) too, and SQLAlchemy the second number for a collation.
                type_.collation = None
        self.primary_key = tuple(map(true_name, key))
        if not self.primary_key:
            raise SchemaMismatch(f"the table {name} has no primary key, so a key can't tell its row")
        #: Why no row can be written, as a dialect finds; empty: rows can.
        self.unwritable = ""
        foreign_keys = inspector.get_foreign_keys(name, schema)
        unique = [tuple(map(true_name, columns)) for columns in _unique_sets(inspector, name, schema)]
        self.unique_sets = [columns for columns in unique if columns != self.primary_key]
        self.references = {
            true_name(column): f"{key['referred_table']}.{true_name(referred)}"
            for key in foreign_keys
            for column, referred in zip(key["constrained_columns"], key["referred_columns"])
        }
        self.parents = {
            key["referred_table"] for key in foreign_keys if key["referred_schema"] in (schema, None)
        }


def _missing(inspector: Inspector, name: str, schema: str | None) -> str:
    place = f"the schema {schema}" if schema else "the target's database"
    if name in inspector.get_view_names(schema):
        return f"{name} in {place} is a view, and a function needs a table"
    return f"there is no table {name} in {place}"


def _unique_sets(inspector: Inspector, name: str, schema: str | None) -> list[tuple[str, ...]]:
    indexes = [each for each in inspector.get_indexes(name, schema) if each.get("unique")]
    every: list[Any] = [*indexes, *inspector.get_unique_constraints(name, schema)]
    return list({tuple(column or "" for column in each["column_names"]): None for each in every})


def make_table(reflected: Reflected, name: str, columns: dict[str, Any], notes: list[str]) -> Table:
    """Put a Table together from what was reflected."""
    unique, parents, references = reflected.unique_sets, reflected.parents, reflected.references
    key = reflected.primary_key
    return Table(name, columns, key, unique, parents, notes, references, reflected.unwritable)
