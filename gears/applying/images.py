"""Rows as the hashes that they are in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors import Connector, ConversionError, SchemaMismatch
from gears.applying.added import fields_of
from gears.applying.tables import table_of
from gears.declaring.functions import Function


def weight(row: Mapping[bytes, bytes]) -> int:
    """Return how many bytes the fields of a row have."""
    return sum(len(name) + len(value) for name, value in row.items())


class RowReader:
    """Reads the rows of one function, of any kind, as the fields of its hashes.

    A field is absent where its column is NULL. The values are the texts that, written to the hash and
    captured, give the same row again. A row that is marked as deleted is none. The constructor raises
    SchemaMismatch: the table does not fit.
    """

    def __init__(self, function: Function, connector: Connector) -> None:
        self._additions = function.mapping.additions
        if self._additions.history:
            raise SchemaMismatch(f"{function.name} is a history, and its rows are no hashes")
        self.function = function
        self._connector = connector
        self._template = function.mapping.keys
        table = table_of(function, connector)
        self.key_columns = table.primary_key
        self._key = [table.columns[name] for name in table.primary_key]
        names = function.mapping.primary_key
        self._key_order = tuple(
            (names.index(name), table.columns[name].convert) for name in table.primary_key
        )
        self._part_order = tuple(table.primary_key.index(name) for name in names)
        self._fields = [field.encode() for field in function.mapping.columns]
        self._columns = list(function.mapping.columns.values())
        if self._additions.rest:
            self._columns.append(self._additions.rest)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes] | None]:
        """Return the fields of each Redis key, by one SELECT; None: there is no row of that key.

        A row whose columns are all NULL has no fields. Raises Unavailable, or SchemaMismatch.
        """
        images: dict[bytes, dict[bytes, bytes] | None] = dict.fromkeys(keys)
        asked = {key: value for key, value in zip(images, map(self._values, images)) if value is not None}
        mark = self._additions.deleted_at
        columns = [*self._columns, mark] if mark else self._columns
        rows = self._connector.read(self.function.mapping.table, list(asked.values()), columns)
        for key, row in zip(asked, rows):
            if row is not None and not (mark and row[-1] is not None):
                images[key] = self._image(row)
        return images

    def scan(
        self, after: Sequence[bytes] | None, where: str, most: int
    ) -> list[tuple[tuple[bytes, ...], dict[bytes, bytes]]]:
        """Return up to ``most`` rows in the order of the primary key: its texts, as in ``key_of``, and the
        fields. ``after``: the texts of the key to go on behind; ``where`` is that of ``Connector.scan``.

        Raises Unavailable, or SchemaMismatch.
        """
        table, width = self.function.mapping.table, len(self._key_order)
        place: tuple[Any, ...] | None = None
        if after is not None:
            place = tuple(map(self._connector.key_part, self._key, after))
        absent = self._additions.deleted_at
        rows = self._connector.scan(table, self._columns, place, where, most, absent)
        return [(tuple(text or b"" for text in row[:width]), self._image(row[width:])) for row in rows]

    def count(self, where: str) -> int:
        """Return the number of rows. Raises Unavailable, or SchemaMismatch."""
        return self._connector.count(self.function.mapping.table, where, self._additions.deleted_at)

    def key_of(self, values: Sequence[bytes]) -> bytes:
        """Return the Redis key of a row, of the texts of its primary key in the table's order.

        Raises KeyPartError when the template has no key for them.
        """
        return self._template.format([values[index] for index in self._part_order])

    def _values(self, key: bytes) -> tuple[Any, ...] | None:
        parts = self._template.match(key)
        if parts is None:
            return None
        try:
            return tuple(convert(parts[at]) for at, convert in self._key_order)
        except ConversionError:
            # What the column can't hold is no row's key.
            return None

    def _image(self, row: Sequence[bytes | None]) -> dict[bytes, bytes]:
        image = {field: value for field, value in zip(self._fields, row) if value is not None}
        rest = row[len(self._fields)] if self._additions.rest else None
        if rest is not None:
            others = fields_of(rest, self._additions.rest_bytes == "base64")
            image.update((field, value) for field, value in others.items() if field not in self._fields)
        return image
