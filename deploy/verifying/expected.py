"""What SQL should have of a key: its row by the hash as it is, as the worker would make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import Column, Connector, ConversionError
from connectors.rows import RowOp
from connectors.values.equal import refusal, same, stands_for_absent
from gears.applying import change as changes
from gears.applying.added import Origin
from gears.applying.change import Change
from gears.applying.conversion import RowFault
from gears.applying.converters import converter_for
from gears.applying.tables import table_of
from gears.declaring import kinds, paths
from gears.declaring.expressions import VALUE, Expression, Name
from gears.declaring.functions import Function, Transform

Image = Any
"""What a key holds. Of a hash the captured fields, each value or None; of a function that sees whole hashes
pairs, flat. Of a document its text alone; of a key of members see ``members.py``. None: it is not there."""
Row = Any
"""The texts of the mapped columns of a row; of a key of members see ``members.py``. None: there is none."""

SOME_ID = b"1700000000000-0"
"""Of a change that there is not: what is made of it is not compared."""
MOST_KNOWN = 4096
"""How many values are remembered that the database was asked about."""
MISSING, EXTRA, DIFFERS = "missing", "extra", "differs"


@dataclass(frozen=True)
class Expected:
    """``place``: None when no row can be the key's, for ``reason``. ``values``: of each mapped column; None:
    absent. ``gone``: there should be no row. ``open``: a transform has dropped it, so that any row will do.
    ``fault``: what the key holds fits no row, for ``reason``, so that whatever row there is differs.
    """

    place: tuple[Any, ...] | None
    values: Mapping[Any, Any] = field(default_factory=dict)
    gone: bool = False
    open: bool = False
    fault: bool = False
    reason: str = ""
    column: str = ""

    @property
    def is_row(self) -> bool:
        """Whether it is just one row with these values."""
        return self.place is not None and not (self.gone or self.open or self.fault)


@dataclass(frozen=True)
class Difference:
    """``kind``: ``missing``, ``extra`` or ``differs``; ``columns`` are those that differ. ``rows``: of a key
    of members, how many of its rows do so, by kind.
    """

    kind: str
    columns: tuple[str, ...] = ()
    reason: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)


class Expecter:
    """Tells what is to be expected for one function. The constructor raises SchemaMismatch."""

    def __init__(
        self, function: Function, transform: Transform | None, connector: Connector, deployment: str
    ) -> None:
        self.function = function
        additions = function.mapping.additions
        #: The columns that are compared: what is made of the change itself is in no hash.
        self.columns = tuple(
            name
            for name in function.mapping.written
            if name not in additions.computed or not _is_of_change(additions.computed[name])
        )
        self.match = function.mapping.keys.match
        #: Whether rows are the fields of hashes as they are.
        self.is_plain = transform is None and not additions.columns and function.mapping.type == kinds.HASH
        #: Whether keys alone tell their rows: a transform may give another one.
        self.key_tells = transform is None
        #: Whether the transform has given a row another key than its hash's.
        self.moves_rows = False
        self.table = table_of(function, connector)
        self._connector = connector
        self._known: dict[tuple[str, Any], bytes | None] = {}
        self._converter = converter_for(function, transform, connector, Origin(deployment))
        captured = [paths.DOCUMENT] if function.mapping.type == kinds.JSON else function.captured_fields()
        #: The fields to ask for; None: the whole hash.
        self.fields = None if captured is None else [each.encode() for each in captured]
        names = function.mapping.primary_key
        self.key_order = tuple(
            (names.index(name), self.table.columns[name].convert) for name in self.table.primary_key
        )

    def place(self, key: bytes) -> tuple[Any, ...]:
        """Return which row is a key's by the key alone. Raises ConversionError: none can be."""
        parts = self.match(key)
        if parts is None:
            raise ConversionError("the key does not fit the template")
        return tuple(convert(parts[at]) for at, convert in self.key_order)

    def expect(self, key: bytes, image: Image) -> Expected:
        """Return what SQL should have of a key."""
        if not self.is_plain:
            return self._converted(key, image)
        try:
            place = self.place(key)
        except ConversionError as error:
            return Expected(None, gone=image is None, reason=f"the key is none of the column's: {error}")
        if image is None:
            return Expected(place, gone=True)
        return Expected(place, dict(zip(self.columns, image)))

    def difference(self, expected: Expected, row: Row) -> Difference | None:
        """Return how a row is not what is expected; None: it is."""
        if expected.open or (expected.gone and (row is None or self._is_marked(row))):
            return None
        if expected.gone:
            return Difference(EXTRA)
        if row is None:
            return Difference(MISSING, reason=expected.reason or self._refusal(expected, self.columns))
        if expected.fault:
            return Difference(DIFFERS, (expected.column,) if expected.column else (), expected.reason)
        wrong = tuple(
            name for name, stored in zip(self.columns, row) if not self._agrees(name, expected.values, stored)
        )
        return Difference(DIFFERS, wrong, self._refusal(expected, wrong)) if wrong else None

    def _is_marked(self, row: Sequence[bytes | None]) -> bool:
        """Whether a row counts as deleted."""
        mark = self.function.mapping.additions.deleted_at
        return bool(mark) and row[self.columns.index(mark)] is not None

    def _agrees(self, name: str, values: Mapping[Any, Any], stored: bytes | None) -> bool:
        column, given = self.table.columns[name], values.get(name)
        if given is None:
            # What is written as NULL is no default.
            is_written = name in values and not self.is_plain
            return stored is None if is_written else stands_for_absent(column, stored)
        return self._is_same(column, given, stored)

    def _is_same(self, column: Column, given: Any, stored: bytes | None) -> bool:
        if stored is None or same(column, given, stored):
            return stored is not None
        return self._written(column, given) == stored

    def _written(self, column: Column, given: Any) -> bytes | None:
        """Return how the database writes a value, if only it knows."""
        place = column.name, given
        if place not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            value = None if refusal(column, given) else column.convert(given)
            self._known[place] = None if value is None else self._connector.as_stored(column, value)
        return self._known.get(place)

    def _refusal(self, expected: Expected, names: Sequence[str]) -> str:
        """Say which value its column does not take."""
        for name in names:
            said = refusal(self.table.columns[name], expected.values.get(name))
            if said:
                return f"column {name}: {said}"
        return ""

    # -- With a transform, columns that no single field fills, or of a document ----------------------------

    def _converted(self, key: bytes, image: Image) -> Expected:
        parts = self.match(key)
        if parts is None:
            return Expected(None, open=True)
        fields, values = self._pairs(image)
        op = changes.DELETED if image is None else changes.UPSERT
        try:
            row = self._converter.row(Change(SOME_ID, key, op + b"0", fields, values), op, parts)
        except RowFault as error:
            place = self.own_place(parts) if self._converter.transform is None else None
            return Expected(place, fault=True, reason=error.fault.reason, column=error.fault.column)
        if row is None:
            # A transform has dropped it; else no column takes the key, which is gone.
            return Expected(None, open=True)
        self.moves_rows = self.moves_rows or row.key != self.own_place(parts)
        return self._of_row(row)

    def own_place(self, parts: tuple[bytes, ...]) -> tuple[Any, ...] | None:
        """Return which row is a key's by the parts of the key; None: none can be."""
        try:
            return tuple(convert(parts[at]) for at, convert in self.key_order)
        except ConversionError:
            return None

    def _pairs(self, image: Image) -> tuple[tuple[bytes, ...], list[bytes]]:
        if image is None:
            return (), []
        if self.fields is None:
            pairs = [value for value in image if value is not None]
            return tuple(pairs[::2]), pairs[1::2]
        there = [(name, value) for name, value in zip(self.fields, image) if value is not None]
        return tuple(name for name, _ in there), [value for _, value in there]

    def _of_row(self, row: RowOp) -> Expected:
        if row.kind in ("delete", "mark"):
            return Expected(row.key, gone=True)
        width = len(self.table.primary_key)
        return Expected(row.key, dict(zip(row.columns[width:], row.values[width:])))


def _is_of_change(expression: Expression) -> bool:
    """Whether a computed column holds what only the change knows: its time, its id, where it was captured."""
    known = ("key", "deployment")
    return any(
        isinstance(part, Name) and part.kind == VALUE and part.name not in known for part in expression.parts
    )
