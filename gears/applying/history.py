"""Histories: each change is a row of its own, by its place in the stream, and is never written over."""

from __future__ import annotations

from typing import Any, Sequence

from connectors import Connector, RowOp, Table
from gears.applying import change as changes
from gears.applying.added import Origin, Seen, moment_of
from gears.applying.change import Change
from gears.applying.conversion import Converter, Shape
from gears.declaring.additions import AT, EPOCH, HISTORY, LANE, MS, OP, SEQ
from gears.declaring.functions import Function, Transform

WRITE, DELETE, EXPIRE, EVICT = "write", "delete", "expire", "evict"
"""What stands in the column change_op."""
_GONE = {changes.EXPIRED: EXPIRE, changes.EVICTED: EVICT}


class HistoryConverter(Converter):
    """Makes a row of each change: the image after it, or NULLs when the key is gone.

    The row is inserted by the change's lane, epoch and stream id: applied again it is the same row.
    """

    def __init__(
        self, function: Function, transform: Transform | None, connector: Connector, origin: Origin
    ) -> None:
        super().__init__(function, transform, connector, origin)
        table = connector.table(self.mapping.table)
        self._row_key = table.primary_key
        self._converts = {name: table.columns[name].convert for name in HISTORY}
        self._lane = self._converts[LANE](origin.stream.encode())
        self._at = moment_of(table.columns[AT])

    @property
    def coalesces(self) -> bool:
        return False

    def _key_columns(self, table: Table) -> tuple[str, ...]:
        return self.mapping.primary_key

    def _gone(self, change: Change, op: bytes, key: tuple[Any, ...], parts: Sequence[Any]) -> RowOp:
        shape = self._shape(())
        values = key + (() if self._added is None else self._more(change, parts, {}))
        found = dict(zip(shape.columns, values))
        if self.mapping.additions.rest:
            # There is no hash, which is another thing than one without fields.
            found[self.mapping.additions.rest] = None
        return self._entry(change, op, found, shape.absent, _GONE.get(op, DELETE))

    def _upsert(
        self, change: Change, op: bytes, key: tuple[Any, ...], shape: Shape, values: tuple[Any, ...]
    ) -> RowOp:
        return self._entry(change, op, dict(zip(shape.columns, key + values)), shape.absent, WRITE)

    def _entry(
        self, change: Change, op: bytes, found: dict[str, Any], absent: Sequence[str], word: str
    ) -> RowOp:
        found.update(dict.fromkeys(absent))
        position, convert = change.position, self._converts
        found[LANE] = self._lane
        found[EPOCH] = convert[EPOCH](position.epoch)
        found[MS], found[SEQ] = convert[MS](position.ms), convert[SEQ](position.seq)
        found[OP] = convert[OP](word)
        found[AT] = self._at(Seen(change, (), {}))
        key = tuple([found.pop(name) for name in self._row_key])
        columns = (*self._row_key, *found)
        values = (*key, *found.values())
        return RowOp(self.mapping.table, "upsert", key, columns, values, origin=(change, self, op))
