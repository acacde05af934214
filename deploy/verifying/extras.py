"""Rows of which there is no key: the table is read by its primary key, and Redis is asked for the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from connectors import Connector, Table
from deploy.verifying.aliases import Aliases
from deploy.verifying.hashes import Hashes
from gears.declaring.errors import KeyPartError
from gears.declaring.functions import Function

PAGE = 2000
"""How many rows one SELECT brings, and one command asks for."""

Texts = Sequence["bytes | None"]
"""The texts of a row's primary key, in the table's order."""


class KeyMaker:
    """Makes a function's keys of the primary keys of rows."""

    def __init__(self, function: Function, table: Table) -> None:
        self._template = function.mapping.keys
        self._order = [table.primary_key.index(name) for name in function.mapping.keys.names]

    def keys(self, rows: Sequence[Texts]) -> Sequence[bytes | None]:
        """Return the keys of many rows."""
        columns = list(zip(*rows))
        made = self._template.format_all([columns[at] for at in self._order])
        return [self.key(row) for row in rows] if made is None else made

    def key(self, row: Texts) -> bytes | None:
        """Return the key of a row; None: the template has none for it."""
        try:
            return self._template.format(self.parts(row))
        except KeyPartError:
            return None

    def parts(self, row: Texts) -> tuple[bytes, ...]:
        """Return what of a row stands in its key, in the order of the template's names."""
        return tuple([row[at] or b"" for at in self._order])


class Pages:
    """The primary keys of a table's rows, page by page; a row that is there all the time comes once.

    Rows that have something in the column ``absent`` are left out; empty: all are taken.
    """

    def __init__(self, connector: Connector, table: Table, absent: str = "") -> None:
        self._absent = absent
        self._connector = connector
        self._table = table
        self._columns = [table.columns[name] for name in table.primary_key]

    def __iter__(self) -> Iterator[list[Texts]]:
        after: tuple[Any, ...] | None = None
        while True:
            rows = self._connector.scan_keys(self._table.name, after, PAGE, self._absent)
            if rows:
                yield list(rows)
            if len(rows) < PAGE:
                return
            after = tuple(
                self._connector.key_part(column, text or b"") for column, text in zip(self._columns, rows[-1])
            )

    def random(self, most: int) -> list[Texts]:
        """Return the primary keys of so many random rows."""
        return list(self._connector.random(self._table.name, most))


class Looker:
    """Tells of which rows there is no key. ``others``: functions that write rows of the table, too."""

    def __init__(
        self, maker: KeyMaker, hashes: Hashes, aliases: Aliases, others: Sequence[tuple[KeyMaker, Hashes]]
    ) -> None:
        self._maker = maker
        self._hashes = hashes
        self._aliases = aliases
        self._others = others

    def without(self, rows: Sequence[Texts]) -> tuple[list[bytes], list[Texts]]:
        """Return the keys of those rows whose key is not there, and the rows that no key can have."""
        keys = self._maker.keys(rows)
        # Keys of members have many rows.
        asked = list(dict.fromkeys(key for key in keys if key is not None))
        there = dict(zip(asked, self._hashes.there(asked))) if asked else {}
        alone = [
            at
            for at, key in enumerate(keys)
            if (self.is_lost(rows[at]) if key is None else not (there[key] or key in self._aliases))
        ]
        for maker, hashes in self._others:
            alone = self._not_of(maker, hashes, rows, alone)
        lost = [keys[at] for at in alone]
        return [key for key in lost if key is not None], [rows[at] for at in alone if keys[at] is None]

    def is_lost(self, row: Texts) -> bool:
        """Whether no key is known of a row for which the template has none."""
        return self._maker.parts(row) not in self._aliases.unkeyed

    def _not_of(self, maker: KeyMaker, hashes: Hashes, rows: Sequence[Texts], alone: list[int]) -> list[int]:
        """Leave out those that are another function's."""
        keys = {at: maker.key(rows[at]) for at in alone}
        asked = list(dict.fromkeys(key for key in keys.values() if key is not None))
        there = dict(zip(asked, hashes.there(asked))) if asked else {}
        return [at for at, key in keys.items() if key is None or not there[key]]
