"""Which Redis keys are meant by what triggers write down."""

from __future__ import annotations

from collections.abc import Iterable

from connectors import Column, Connector, ConversionError
from connectors.outbox import Entry
from gears.applying.images import RowReader
from gears.applying.tables import table_of
from gears.declaring.errors import KeyPartError
from gears.declaring.functions import Function


class RowKeys:
    """Makes the keys of one function. The constructor raises SchemaMismatch: the table does not fit."""

    def __init__(self, function: Function, connector: Connector) -> None:
        self.function = function
        self._connector = connector
        self.reader = RowReader(function, connector)
        table = table_of(function, connector)
        self._columns: list[Column] = [table.columns[name] for name in table.primary_key]

    def of(self, entries: Iterable[Entry]) -> tuple[list[bytes], bool]:
        """Return the keys that entries mean, each once, and whether some of them mean all keys.

        A row that has no key, because a part of it does not fit into the template, is in no hash.
        """
        keys: dict[bytes, None] = {}
        everything = False
        for entry in entries:
            if entry.table != self.function.mapping.table:
                continue
            if entry.key is None or len(entry.key) != len(self._columns):
                # The second was written before the table's key was changed.
                everything = True
                continue
            key = self._key(entry.key)
            if key is not None:
                keys[key] = None
        return list(keys), everything

    def _key(self, parts: tuple[bytes, ...]) -> bytes | None:
        try:
            texts = [self._connector.key_text(column, part) for column, part in zip(self._columns, parts)]
            return self.reader.key_of(texts)
        except (ConversionError, KeyPartError):
            return None
