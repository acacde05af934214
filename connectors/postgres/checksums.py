"""Checksums of rows in PostgreSQL: one statement for the rows of many keys, in the keys' order."""

from __future__ import annotations

from typing import Callable, Iterator, Sequence

from connectors.base import Connector
from connectors.checksums import Checksums, Form, Keys, form_of, hexadecimal, md5
from connectors.children import ChildChecksums
from connectors.tables import Column, Table

_NUMBERS = ("smallint", "integer", "bigint", "real", "double precision", "date", "uuid")

Ask = Callable[[str, Table, Keys, str], str]
"""Takes the head of a statement, a table, keys of it, and the tail; a SELECT of the keys comes in between."""


class PostgresChecksums(Checksums):
    """The checksums of ``columns`` of ``table``, for which the database is asked by ``ask``."""

    def __init__(self, connector: Connector, ask: Ask, table: Table, columns: Sequence[str]) -> None:
        super().__init__([_form(table.columns[name]) for name in columns])
        self._ask = ask
        self._table = table
        pieces = ", ".join(_pieces(self.forms, list(map(connector.quoted_column, columns))))
        match = " AND ".join(
            f"t.{connector.quoted_column(name)} = k.c{at}" for at, name in enumerate(table.primary_key)
        )
        place = connector.quoted_table(table.name)
        self._head = f"SELECT md5(string_agg(s.x, '')) FROM (SELECT concat({pieces}) AS x FROM ("
        # Each row by the index, whatever the statistics say: a scan of the table for each chunk takes longer.
        self._tail = (
            f") k CROSS JOIN LATERAL (SELECT * FROM {place} t WHERE {match} OFFSET 0) t ORDER BY k.n) s"
        )

    def remote(self, keys: Keys) -> str:
        return self._ask(self._head, self._table, keys, self._tail)


def of_children(
    connector: Connector, ask: Ask, table: Table, parents: Sequence[str], columns: Sequence[str]
) -> ChildChecksums:
    """Return the checksums of ``columns`` of all rows whose columns ``parents`` have given values."""
    forms = [_form(table.columns[name]) for name in columns]
    pieces = ", ".join(_pieces(forms, list(map(connector.quoted_column, columns))))
    match = " AND ".join(f"t.{connector.quoted_column(name)} = k.c{at}" for at, name in enumerate(parents))
    head = (
        "SELECT md5(string_agg(s.x, CAST('' AS bytea) ORDER BY s.x)) "
        f"FROM (SELECT convert_to(concat({pieces}), 'UTF8') AS x FROM ("
    )
    place = connector.quoted_table(table.name)
    tail = f") k CROSS JOIN LATERAL (SELECT * FROM {place} t WHERE {match} OFFSET 0) t) s"
    keyed = Table(table.name, table.columns, tuple(parents), [])
    return ChildChecksums(forms, lambda keys: ask(head, keyed, keys, tail), md5)


def _form(column: Column) -> Form:
    kind = str(column.type)
    if kind == "bytea":
        return Form("CAST({} AS text)", True, hexadecimal)
    return form_of(column, kind, _NUMBERS)


def _pieces(forms: Sequence[Form], names: Sequence[str]) -> Iterator[str]:
    for form, name in zip(forms, names):
        text = form.expression.format(f"t.{name}")
        # concat() writes NULL as nothing.
        yield f"octet_length({text}), ':', {text}" if form.sized else f"{text}, ','"
