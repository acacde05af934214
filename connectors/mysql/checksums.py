"""Checksums of rows in MySQL and MariaDB, of tables whose keys are numbers: all order those alike."""

from __future__ import annotations

from typing import Callable, Sequence

from connectors.base import Connector
from connectors.checksums import Checksums, Form, Images, Keys, form_of, sha256
from connectors.children import ChildChecksums
from connectors.tables import Column, Table

_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")
_NUMBERS = (*_WHOLE, "year", "date", "double")

Ask = Callable[[str, Keys], str]
"""Takes the head of a statement, and keys, which come behind it."""


def of_table(
    connector: Connector, ask: Ask, table: Table, columns: Sequence[Column]
) -> MySQLChecksums | None:
    """Return the checksums of ``columns``; None: the order of the table's keys is the database's own."""
    keys = [table.columns[name] for name in table.primary_key]
    is_ordered = all(_kind(key) in _WHOLE for key in keys)
    return MySQLChecksums(connector, ask, table, columns) if is_ordered else None


class MySQLChecksums(Checksums):
    """The checksums of ``columns`` of ``table``, for which the database is asked by ``ask``."""

    def __init__(self, connector: Connector, ask: Ask, table: Table, columns: Sequence[Column]) -> None:
        super().__init__([form_of(column, _kind(column), _NUMBERS) for column in columns])
        self._ask = ask
        names = [connector.quoted_column(column.name) for column in columns]
        pieces = ", ".join(_piece(form, name) for form, name in zip(self.forms, names))
        key = ", ".join(map(connector.quoted_column, table.primary_key))
        self._head = (
            f"SELECT SHA2(GROUP_CONCAT(CONCAT({pieces}) ORDER BY {key} SEPARATOR ''), 256) "
            f"FROM {connector.quoted_table(table.name)} WHERE ({key}) IN ("
        )

    def digest(self, text: bytes) -> str:
        return sha256(text)

    def arranged(self, keys: Keys, images: Images) -> Images:
        """Return ``images`` in the order of their keys, which are numbers."""
        return [images[at] for at in sorted(range(len(keys)), key=keys.__getitem__)]

    def remote(self, keys: Keys) -> str:
        return self._ask(self._head, keys)


def of_children(
    connector: Connector, ask: Ask, table: Table, parents: Sequence[str], columns: Sequence[str]
) -> ChildChecksums:
    """Return the checksums of ``columns`` of all rows whose columns ``parents`` have given values."""
    forms = [form_of(table.columns[name], _kind(table.columns[name]), _NUMBERS) for name in columns]
    row = ", ".join(_piece(form, connector.quoted_column(name)) for form, name in zip(forms, columns))
    key = ", ".join(map(connector.quoted_column, parents))
    head = (
        f"SELECT SHA2(GROUP_CONCAT(CONCAT({row}) ORDER BY CAST(CONCAT({row}) AS BINARY) SEPARATOR ''), 256) "
        f"FROM {connector.quoted_table(table.name)} WHERE ({key}) IN ("
    )
    return ChildChecksums(forms, lambda keys: ask(head, keys), sha256)


def _kind(column: Column) -> str:
    return column.type_text.lower().partition("(")[0].partition(" ")[0]


def _piece(form: Form, name: str) -> str:
    text = form.expression.format(name)
    if form.sized:
        return f"COALESCE(OCTET_LENGTH({text}), ''), ':', COALESCE({text}, '')"
    return f"COALESCE({text}, ''), ','"
