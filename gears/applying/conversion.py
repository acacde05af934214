"""From the image of a hash to a row operation of one function, by the columns as the database has them."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from connectors import Connector, ConversionError, RowOp, Table
from gears.applying import change as changes
from gears.applying.added import Added, Image, Origin, Seen, Unfit, moment_of
from gears.applying.change import Change
from gears.applying.deadletters import Fault
from gears.applying.tables import table_of
from gears.declaring.functions import Change as SeenChange
from gears.declaring.functions import Function, Transform

Convert = Callable[[object], Any]


class RowFault(Exception):
    """A change has no row: a value does not fit, or the transform failed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class Shape(NamedTuple):
    """What all images with the same fields share. ``nullable`` are those of ``absent`` that can be NULL;
    ``forms`` are known by the operation.
    """

    columns: tuple[str, ...]
    picks: tuple[tuple[int, Convert], ...]
    absent: tuple[str, ...]
    nullable: tuple[str, ...]
    forms: dict[bytes, Form]


class Form(NamedTuple):
    """What all upserts of one shape by one operation share. ``filled``: how many NULLs follow the values; the
    others are those of RowOp.
    """

    columns: tuple[str, ...]
    filled: int
    nulls: tuple[str, ...]
    defaults: tuple[str, ...]
    mark: str
    resets: tuple[str, ...]


NOWHERE = Origin()
MAX_SHAPES = 4096
MAX_NAMES = 200_000
"""How many shapes are remembered, and names of fields in them: whole hashes can have any fields."""
MAX_REASON = 500
"""The most characters of what a transform raised, or a database said, that are kept."""


def _as_text(value: bytes | None) -> str | bytes | None:
    if value is None:
        # What is null in a JSON document.
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


class Converter:
    """Makes row operations for one function. The constructor raises SchemaMismatch: a column is missing."""

    def __init__(
        self, function: Function, transform: Transform | None, connector: Connector, origin: Origin = NOWHERE
    ) -> None:
        self.function = function
        self.mapping = function.mapping
        self.transform = transform
        self.match = function.mapping.keys.match
        table = table_of(function, connector)
        names = self.mapping.primary_key
        self._primary_key = self._key_columns(table)
        self._key_order = tuple(
            (names.index(name), table.columns[name].convert) for name in self._primary_key
        )
        mark = self.mapping.additions.deleted_at
        self._mark = moment_of(table.columns[mark]) if mark else None
        self._nullable = frozenset(name for name, column in table.columns.items() if column.nullable)
        self._columns = {
            field.encode(): (column, table.columns[column].convert)
            for field, column in self.mapping.columns.items()
        }
        self._added = Added(self.mapping, table, origin) if self.mapping.additions.columns else None
        self._shapes: dict[tuple[bytes, ...], Shape] = {}
        self._names = 0
        self.takes_columns = type(self) is Converter and self.coalesces and self._added is None

    @property
    def key_order(self) -> Sequence[tuple[int, Convert]]:
        """For each column of the primary key which part of the key it is, and its converter."""
        return self._key_order

    def _key_columns(self, table: Table) -> tuple[str, ...]:
        """Return the columns that the parts of the key fill."""
        return table.primary_key

    # -- One change --------------------------------------------------------------------------------------

    @property
    def coalesces(self) -> bool:
        """Whether the last state of a key stands for those before."""
        return self.transform is None

    def keeps(self, op: bytes) -> bool:
        """Whether the row stays as it is when its key goes by ``op``."""
        return self._policy(op) == "keep"

    def marks(self, op: bytes) -> bool:
        """Whether the row is marked as deleted when its key goes by ``op``."""
        return self._policy(op) == "mark"

    def _policy(self, op: bytes) -> str:
        mapping = self.mapping
        if op == changes.TAKEN:
            # The client wants the row gone, in the way in which rows of this table go.
            return "mark" if mapping.on_delete == "mark" else "delete"
        policies = {changes.EXPIRED: mapping.on_expire, changes.EVICTED: mapping.on_evict}
        return policies.get(op, mapping.on_delete)

    def row(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        """Return the operation for a change under ``op`` (its own, or what coalescing made of it).

        ``parts``: what the key template matched. None: there is nothing to do. Raises RowFault.
        """
        if self.transform is not None:
            return self._transformed(change, op, parts)
        if op in changes.GONE:
            return self._delete(change, op, parts)
        return self.upsert(change, parts, op)

    def _delete(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        try:
            return self._gone(change, op, self._key(parts), parts)
        except RowFault:
            # A key that no column takes never had a row; what it held is a dead letter already.
            return None

    def _gone(self, change: Change, op: bytes, key: tuple[Any, ...], parts: Sequence[Any]) -> RowOp:
        """Return what becomes of the row of a key that is gone; ``parts`` are those of the key."""
        table, mark, origin = self.mapping.table, self.mapping.additions.deleted_at, (change, self, op)
        if self._mark is None or not self.marks(op):
            return RowOp(table, "delete", key, origin=origin)
        return RowOp(
            table, "mark", key, (mark,), (self._mark(Seen(change, parts, {})),), origin=origin, mark=mark
        )

    def upsert(self, change: Change, parts: tuple[bytes, ...], op: bytes = changes.UPSERT) -> RowOp:
        """Return the upsert of a change without a transform. Raises RowFault."""
        key = self._key(parts)
        shape = self.shape(change.fields)
        values = change.values
        try:
            converted = tuple([convert(values[at]) for at, convert in shape.picks])
        except ConversionError:
            raise self._first_fault(shape, values) from None
        if self._added is not None:
            converted += self._more(change, parts, change.image if self._added.needs_image else {})
        return self._upsert(change, op, key, shape, converted)

    def _more(self, change: Change, parts: Sequence[Any], image: Image) -> tuple[Any, ...]:
        """Return the values of the columns that no single field fills."""
        assert self._added is not None  # noqa: S101 (for mypy)
        try:
            return self._added.values(Seen(change, parts, image))
        except Unfit as error:
            raise RowFault(self.fault(str(error), error.column)) from error

    def _upsert(
        self, change: Change, op: bytes, key: tuple[Any, ...], shape: Shape, values: tuple[Any, ...]
    ) -> RowOp:
        form = self.form(shape, op)
        values = key + values + (None,) * form.filled
        table, origin = self.mapping.table, (change, self, op)
        return RowOp(
            *(table, "upsert", key, form.columns, values, form.nulls, form.defaults),
            *(origin, form.mark, form.resets),
        )

    def removed(self, change: Change, parts: tuple[bytes, ...]) -> tuple[Sequence[str], Sequence[str]]:
        """Return the columns of a row that is there which a change sets to NULL, and to their defaults,
        whatever it brings. None, if its key is no row's.
        """
        absent = self.shape(change.fields).absent
        try:
            self._key(parts)
        except RowFault:
            return (), ()
        if change.op == changes.REMOVED:
            return absent, ()
        return (), absent if change.op == changes.REPLACED or change.op in changes.GONE else ()

    def form(self, shape: Shape, op: bytes) -> Form:
        """Return what upserts of a shape have in common under ``op``."""
        known = shape.forms.get(op)
        if known is None:
            known = shape.forms[op] = self._form(shape, op)
        return known

    def _form(self, shape: Shape, op: bytes) -> Form:
        columns, filled, mark = shape.columns, 0, ""
        resets: tuple[str, ...] = ()
        nulls = shape.absent if op == changes.REMOVED else ()
        defaults = shape.absent if op == changes.REPLACED else ()
        if op == changes.EMPTIED:
            # Not the default of a new row either: the row had been written before its fields went.
            columns, filled = columns + shape.nullable, len(shape.nullable)
            nulls = tuple(name for name in shape.absent if name not in shape.nullable)
        if op == changes.UPSERT and self._mark is not None and shape.absent:
            # If the row is one of a key that was gone, it begins anew.
            mark, resets = self.mapping.additions.deleted_at, shape.absent
        return Form(columns, filled, nulls, defaults, mark, resets)

    def _key(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            return tuple([convert(parts[at]) for at, convert in self._key_order])
        except ConversionError:
            for name, (at, convert) in zip(self._primary_key, self._key_order):
                self._try(name, convert, parts[at])
            raise

    def shape(self, fields: tuple[Any, ...]) -> Shape:
        """Return what all images with these fields share."""
        shape = self._shapes.get(fields)
        if shape is None:
            if len(self._shapes) >= MAX_SHAPES or self._names > MAX_NAMES:
                self._shapes.clear()
                self._names = 0
            self._names += len(fields)
            shape = self._shapes[fields] = self._shape(fields)
        return shape

    def _shape(self, fields: tuple[Any, ...]) -> Shape:
        present = {field: at for at, field in enumerate(fields)}
        mapped = [(field, *pair) for field, pair in self._columns.items()]
        columns = tuple(column for field, column, _ in mapped if field in present)
        picks = tuple((present[field], convert) for field, _, convert in mapped if field in present)
        absent = tuple(column for field, column, _ in mapped if field not in present)
        nullable = tuple(column for column in absent if column in self._nullable)
        more = () if self._added is None else self._added.columns
        return Shape(self._primary_key + columns + more, picks, absent, nullable, {})

    def _first_fault(self, shape: Shape, values: list[Any]) -> RowFault:
        """Find which column refused; slow, and only ever asked about rows that are refused."""
        for column, (at, convert) in zip(shape.columns[len(self._primary_key) :], shape.picks):
            try:
                convert(values[at])
            except ConversionError as error:
                return RowFault(self.fault(f"column {column}: {error}", column))
        raise AssertionError("a value was refused, and then it was not")

    def _try(self, column: str, convert: Convert, value: Any) -> None:
        try:
            convert(value)
        except ConversionError as error:
            raise RowFault(self.fault(f"column {column} (from the key): {error}", column)) from error

    def fault(self, reason: str, column: str = "") -> Fault:
        """Return what a dead letter says of this function."""
        return Fault(self.function.name, self.mapping.table, column, reason)

    def refused(self, reason: str, column: str) -> Fault:
        """Return what a dead letter says of a row that the database refused; ``column`` may be empty."""
        # Some databases repeat the value, however long it is.
        said = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…"
        return self.fault(f"column {column}: {said}" if column else said, column)

    # -- With a transform --------------------------------------------------------------------------------

    def _transformed(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        assert self.transform is not None  # noqa: S101 (for mypy)
        names = self.mapping.primary_key
        seen = SeenChange(
            _as_text(change.key) or "",
            "delete" if op in changes.GONE else "upsert",
            {
                name.decode("utf-8", "surrogateescape"): _as_text(value)
                for name, value in change.image.items()
            },
            {name: _as_text(part) for name, part in zip(names, parts)},
        )
        try:
            result = self.transform(seen)
            return None if result is None else self._from_seen(change, op, result)
        except RowFault:
            raise
        except BaseException as error:
            # The user's own code, and values of any type: whatever they raise stops this change only. Some
            # (asyncio's CancelledError, gevent's Timeout) are no Exception, and would end the lane's thread.
            reason = f"the transform of {self.function.name} raised {type(error).__name__}{_said(error)}"
            raise RowFault(self.fault(reason)) from error

    def _from_seen(self, change: Change, op: bytes, result: Any) -> RowOp:
        problem = self._problem(result)
        if problem:
            raise RowFault(self.fault(f"the transform of {self.function.name} {problem}"))
        parts = tuple(result.primary_key[name] for name in self.mapping.primary_key)
        key = self._key(parts)
        if result.op == "delete":
            return self._gone(change, op, key, parts)
        fields = tuple(name.encode("utf-8", "surrogateescape") for name in result.fields)
        values = list(result.fields.values())
        shape = self._shape(fields)
        try:
            converted = tuple([convert(values[at]) for at, convert in shape.picks])
        except ConversionError:
            raise self._first_fault(shape, values) from None
        if self._added is not None:
            converted += self._more(change, parts, dict(zip(fields, values)))
        return self._upsert(change, changes.UPSERT if op in changes.GONE else op, key, shape, converted)

    def _problem(self, result: Any) -> str:
        """Say what is wrong with what a transform returned; empty: nothing."""
        if not isinstance(result, SeenChange):
            return f"returned a {type(result).__name__}; it must return its Change, or None to drop it"
        if result.op not in ("upsert", "delete"):
            return "returned a change whose op is neither upsert nor delete"
        if not isinstance(result.fields, dict) or not all(isinstance(name, str) for name in result.fields):
            return "returned a change whose fields are no dict of names and values"
        names = self.mapping.primary_key
        if not isinstance(result.primary_key, dict) or set(result.primary_key) != set(names):
            return f"returned a change whose primary_key has not just {', '.join(names)}"
        missing = [name for name in names if result.primary_key[name] is None]
        return f"returned a change without a value for {', '.join(missing)} in its key" if missing else ""


def _said(error: BaseException) -> str:
    """Return ``: `` and the first line of what an exception says; empty when it says nothing."""
    try:
        lines = str(error).splitlines()
    except Exception:
        # An exception that can't even be shown; its type has to do.
        lines = []
    return f": {lines[0][:MAX_REASON]}" if lines and lines[0] else ""
