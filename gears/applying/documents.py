"""From a JSON document to a row operation: each path of the mapping is as the field of a hash.

The document is the whole state: a path that it lacks is NULL, whatever the row held, or would hold when new.
A change without an image is a mark, of a key in a slot on its way here: the worker has read the document for
the last one of a key, as it does of members.
"""

from __future__ import annotations

from typing import Any, Callable

from connectors import Connector, ConversionError, RowOp
from gears.applying import change as changes
from gears.applying.added import Origin
from gears.applying.change import Change
from gears.applying.conversion import NOWHERE, Convert, Converter, RowFault
from gears.declaring import paths
from gears.declaring.functions import Function, Transform

DOCUMENT = paths.DOCUMENT.encode()


class DocumentConverter(Converter):
    """Makes row operations of keys that hold JSON."""

    def __init__(
        self, function: Function, transform: Transform | None, connector: Connector, origin: Origin = NOWHERE
    ) -> None:
        super().__init__(function, transform, connector, origin)
        wanted = [*function.mapping.columns, *(function.mapping.fields or ())]
        if transform is not None and function.mapping.fields is None:
            wanted.append(paths.DOCUMENT)
        self._is_whole = paths.DOCUMENT in wanted
        self._paths = [
            (text.encode(), paths.parse(text), self._writer(text))
            for text in dict.fromkeys(wanted)
            if text != paths.DOCUMENT
        ]

    def _writer(self, text: str) -> Callable[[Any], bytes | None]:
        column = self._columns.get(text.encode())
        return _as_json if column is not None and _takes_json(column[1]) else paths.as_field

    def row(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        if op not in changes.GONE and not change.fields:
            return None
        return super().row(change, op, parts)

    def upsert(self, change: Change, parts: tuple[bytes, ...], op: bytes = changes.UPSERT) -> RowOp:
        row = super().upsert(self._opened(change), parts, changes.EMPTIED)
        row.origin = (change, self, op)
        return row

    def _transformed(self, change: Change, op: bytes, parts: tuple[bytes, ...]) -> RowOp | None:
        if op in changes.GONE:
            return super()._transformed(change, op, parts)
        row = super()._transformed(self._opened(change), changes.EMPTIED, parts)
        if row is not None:
            row.origin = (change, self, op)
        return row

    def _opened(self, change: Change) -> Change:
        """Return the change with the mapped paths as its fields. Raises RowFault."""
        if change.fields != (DOCUMENT,):
            reason = "an older version captured this key, not as a JSON document; retry takes it as it is now"
            raise RowFault(self.fault(reason))
        try:
            text = change.values[0].decode()
            fields, values = self._fields_of(paths.read(text))
        except RecursionError:
            raise RowFault(self.fault("the JSON document is nested too deeply")) from None
        except ValueError as error:
            raise RowFault(self.fault(f"the key holds no JSON document: {_said(error)}")) from None
        if self._is_whole:
            # As it was written, and not as it was read.
            fields, values = (DOCUMENT, *fields), [change.values[0], *values]
        return change._replace(fields=fields, values=values)

    def _fields_of(self, document: Any) -> tuple[tuple[bytes, ...], list[Any]]:
        found = [(text, paths.find(document, path), writer) for text, path, writer in self._paths]
        present = [each for each in found if each[1] is not paths.NOTHING]
        return tuple(text for text, _, _ in present), [writer(value) for _, value, writer in present]


def _takes_json(convert: Convert) -> bool:
    """Return whether a column takes documents alone, in whatever way its database calls it."""
    try:
        convert(b'"x"')
    except ConversionError:
        return False
    try:
        convert(b"x")
    except ConversionError:
        return True
    return False


def _as_json(value: Any) -> bytes | None:
    return None if value is None else paths.written(value).encode()


def _said(error: ValueError) -> Any:
    """Return what is wrong, without what the document holds."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "a text has half of a surrogate pair, which is no UTF-8"
    return error
