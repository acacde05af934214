"""A table as it is in the database: its columns with their converters, its keys, and what it refers to."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from connectors.values.texts import PLAIN, Text

Convert = Callable[[object], Any]


class Column:
    """One column. ``convert`` takes the bytes of a hash field (or a Python value from a transform; None is
    NULL) and returns the value to write, or raises ConversionError. ``type_text`` is the type in SQL.

    ``default`` is the default as an SQL expression where the database tells, ``type`` SQLAlchemy's type.
    ``computed``: the database makes the value of others in the row, and takes none.
    ``text`` is the way back, from the column to the bytes of a hash field. ``sent_as``: the type as which its
    values go to PostgreSQL, ``type_text`` without limits.
    """

    __slots__ = (
        "computed",
        "convert",
        "default",
        "has_default",
        "name",
        "nullable",
        "primary_key",
        "sent_as",
        "text",
        "type",
        "type_text",
    )

    def __init__(
        self,
        name: str,
        type_: Any,
        type_text: str,
        convert: Convert,
        nullable: bool = True,
        has_default: bool = False,
        primary_key: bool = False,
        default: str | None = None,
        text: Text = PLAIN,
        computed: bool = False,
    ) -> None:
        self.name = name
        self.type = type_
        self.type_text = type_text
        self.convert = convert
        self.nullable = nullable
        self.has_default = has_default
        self.primary_key = primary_key
        self.default = default
        self.text = text
        self.computed = computed
        self.sent_as = type_text

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.type_text!r})"


class Table:
    """One table. ``unique_sets`` are the columns of its unique indexes beside the primary key, ``parents``
    the tables that its foreign keys refer to, ``references`` their columns, each with what it refers to
    (``persons.id``), ``warnings`` sentences about what may surprise, ``unwritable`` one that says why no row
    can be written; empty: rows can.
    """

    def __init__(
        self,
        name: str,
        columns: dict[str, Column],
        primary_key: tuple[str, ...],
        unique_sets: list[tuple[str, ...]],
        parents: Iterable[str] = (),
        warnings: Iterable[str] = (),
        references: dict[str, str] | None = None,
        unwritable: str = "",
    ) -> None:
        self.name = name
        self.unwritable = unwritable
        self.columns = columns
        self.primary_key = primary_key
        self.unique_sets = unique_sets
        self.parents = frozenset(parents)
        self.warnings = list(warnings)
        self.references = references or {}

    def __repr__(self) -> str:
        return f"Table({self.name!r})"
