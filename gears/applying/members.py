"""From the members of a key to its rows: one operation that replaces them all.

The image of such a change is what the worker has read (``gears/worker/memberstates.py``): fields and values
are those of ``IMAGES``. A change without an image is a mark for which a later one stands, or whose key is
gone.
"""

from __future__ import annotations

from typing import Any

from connectors import Connector, ConversionError, RowOp
from gears.applying import change as changes
from gears.applying.added import Origin
from gears.applying.change import Change
from gears.applying.conversion import NOWHERE, Converter, RowFault
from gears.applying.tables import table_of
from gears.declaring import kinds
from gears.declaring.functions import Function, Transform
from gears.declaring.mapping import Mapping

IMAGES = {kinds.SET: ("member", ""), kinds.LIST: ("index", "value"), kinds.ZSET: ("member", "score")}
"""What of a member is a field of the image, and what is its value; empty: nothing is."""


class MembersConverter(Converter):
    """Makes row operations of keys that are many rows."""

    def __init__(
        self, function: Function, transform: Transform | None, connector: Connector, origin: Origin = NOWHERE
    ) -> None:
        super().__init__(function, transform, connector, origin)
        mapping = function.mapping
        table = table_of(function, connector)
        names = mapping.keys.names
        self._parts = [(name, table.columns[name].convert) for name in names]
        of_field, of_value = IMAGES[mapping.type]
        column = mapping.columns[of_field]
        self._field = (column, table.columns[column].convert)
        column = mapping.columns.get(of_value, "")
        self._value = (column, table.columns[column].convert) if column else None
        self._written = (*names, self._field[0], *((self._value[0],) if self._value else ()))

    def row(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        try:
            key = tuple([self._converted(pair, part) for pair, part in zip(self._parts, parts)])
        except RowFault:
            if op in changes.GONE:
                # A key that no column takes never had rows; what it held is a dead letter already.
                return None
            raise
        if op not in changes.GONE and not change.fields:
            return None
        members = () if op in changes.GONE else self._members(key, change)
        table, origin = self.mapping.table, (change, self, op)
        return RowOp(table, "replace", key, self._written, origin=origin, members=members)

    def _members(self, key: tuple[Any, ...], change: Change) -> tuple[tuple[Any, ...], ...]:
        if len(change.fields) > self.mapping.members:
            # They were read for a function of the same keys that takes more.
            raise RowFault(self.fault(too_many(self.mapping, len(change.fields))))
        found: dict[Any, tuple[Any, ...]] = {}
        for field, value in zip(change.fields, change.values):
            told = self._converted(self._field, field)
            if told in found:
                column = self._field[0]
                raise RowFault(self.fault(f"column {column}: two members are the same value there", column))
            more = (self._converted(self._value, value),) if self._value else ()
            found[told] = (*key, told, *more)
        return tuple(found.values())

    def _converted(self, pair: tuple[str, Any], value: bytes) -> Any:
        column, convert = pair
        try:
            return convert(value)
        except ConversionError as error:
            raise RowFault(self.fault(f"column {column}: {error}", column)) from error


def too_many(mapping: Mapping, count: int) -> str:
    """Say that a key has more members than a mapping takes."""
    return f"the {mapping.type} has {count} members, and members={mapping.members} is the most that are taken"
