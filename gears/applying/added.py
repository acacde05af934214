"""The values of the columns that a function adds to its rows (additions.py), from a change."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any, Callable, Dict, NamedTuple, Sequence

from connectors import Column, ConversionError, SchemaMismatch, Table
from gears.applying.change import Change
from gears.declaring.additions import Additions
from gears.declaring.expressions import FIELD, KEY, VALUE, Expression, Name
from gears.declaring.mapping import Mapping

SHOWN = 100
"""The most characters of a field's name in a reason."""

Image = Dict[bytes, Any]
"""The fields of a hash; behind a transform their values may be anything."""


class Origin(NamedTuple):
    """Where changes come from: the deployment, and the stream that is their lane."""

    deployment: str = ""
    stream: str = ""

    @property
    def shard(self) -> str:
        """The source of the shard that captured them (docs/design.md, "Keys in Redis")."""
        words = self.stream.split(":")
        # RedisGears finds streams by their beginning, so that the tag and the source stand at the end there.
        is_of_module = words[1:2] != [] and words[1].startswith("{")
        return words[3] if is_of_module else words[-1]


class Unfit(Exception):
    """The value of a column does not fit it."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column


class Seen(NamedTuple):
    """What values are made of: a change, what its key's parts are, and the fields."""

    change: Change
    parts: Sequence[Any]
    image: Image


Make = Callable[[Seen], Any]


class Added:
    """Makes the values of ``columns``. The constructor raises SchemaMismatch: a constant does not fit."""

    def __init__(self, mapping: Mapping, table: Table, origin: Origin) -> None:
        additions = mapping.additions
        self.columns = additions.columns
        self.needs_image = bool(additions.rest or additions.fields)
        self._origin = origin
        self._key_places = {name: at for at, name in enumerate(mapping.primary_key)}
        made = [(column, self._maker(mapping, additions, table.columns[column])) for column in self.columns]
        self._made: tuple[tuple[str, Make], ...] = tuple(made)

    def values(self, seen: Seen) -> tuple[Any, ...]:
        """Return the values in the order of ``columns``. Raises Unfit."""
        found = []
        for column, make in self._made:
            try:
                found.append(make(seen))
            except ConversionError as error:
                raise Unfit(column, str(error)) from error
        return tuple(found)

    def _maker(self, mapping: Mapping, additions: Additions, column: Column) -> Make:
        if column.name == additions.deleted_at:
            # Who writes the key makes its row one that is there.
            return lambda seen: None
        if column.name == additions.rest:
            named = frozenset(field.encode() for field in mapping.columns)
            encoded = additions.rest_bytes == "base64"
            return lambda seen: column.convert(document_of(seen.image, named, encoded))
        if column.name in additions.constants:
            constant = _constant(additions.constants[column.name], column, mapping.table)
            return lambda seen: constant
        return self._computed(additions.computed[column.name], column)

    def _computed(self, expression: Expression, column: Column) -> Make:
        if expression.parts == (Name(VALUE, "time"),):
            return moment_of(column)
        getters = {name: self._getter(name) for name in expression.parts if isinstance(name, Name)}
        return lambda seen: column.convert(expression.value(lambda name: getters[name](seen), _as_text))

    def _getter(self, name: Name) -> Make:
        if name.kind == FIELD:
            field = name.name.encode("utf-8", "surrogateescape")
            return lambda seen: seen.image.get(field)
        if name.kind == KEY:
            place = self._key_places[name.name]
            return lambda seen: seen.parts[place]
        deployment, shard = self._origin.deployment, self._origin.shard
        known: dict[str, Make] = {
            "time": lambda seen: _iso(time_of(seen.change)),
            "id": lambda seen: seen.change.entry_id,
            "epoch": lambda seen: seen.change.epoch,
            "key": lambda seen: seen.change.key,
            "deployment": lambda seen: deployment,
            "shard": lambda seen: shard,
        }
        return known[name.name]


def _constant(value: Any, column: Column, table: str) -> Any:
    try:
        return column.convert(value)
    except ConversionError as error:
        message = f"the constant for the column {column.name} of {table} does not fit it: {error}"
        raise SchemaMismatch(message) from error


# -- The rest of a hash as one document -------------------------------------------------------------------


def document_of(image: Image, named: frozenset[bytes], encoded: bool) -> bytes:
    """Return the fields that are not ``named`` as a JSON object, in the order of their names.

    ``encoded``: bytes that are no UTF-8 become ``{"base64": …}``. Raises ConversionError where they may not.
    """
    found = {
        _name_of(name): _json_of(name, image[name], encoded) for name in sorted(image) if name not in named
    }
    try:
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ConversionError(f"the fields can't be written as JSON: {type(error).__name__}") from None


def _name_of(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        shown = name.decode("utf-8", "backslashreplace")[:SHOWN]
        raise ConversionError(
            f"the field {shown} has a name that is no UTF-8, which no JSON can hold"
        ) from None


def _json_of(name: bytes, value: Any, encoded: bool) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        if encoded:
            return {"base64": base64.b64encode(value).decode("ascii")}
        shown = name.decode()[:SHOWN]
        reason = f'the field {shown} is no UTF-8 text; rest_bytes="base64" would take it as it is'
        raise ConversionError(reason) from None


def fields_of(document: bytes, encoded: bool) -> dict[bytes, bytes]:
    """Return the fields that a document stands for: what ``document_of`` undoes.

    What others wrote there in SQL becomes a text too: a number its digits, an object its JSON. A document
    that is no object, or one of hundreds of levels, has no fields.
    """
    try:
        read = json.loads(document, parse_int=_Digits, parse_float=_Digits)
        if not isinstance(read, dict):
            return {}
        found = {name: _bytes_of(value, encoded) for name, value in read.items() if value is not None}
    except (ValueError, RecursionError):
        return {}
    return {name.encode("utf-8", "surrogatepass"): value for name, value in found.items()}


class _Digits(str):
    """A number as it is written: Python's would be another one where it is long."""

    __slots__ = ()


def _bytes_of(value: Any, encoded: bool) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if encoded and isinstance(value, dict) and [*map(type, value.values())] == [str] and "base64" in value:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (ValueError, TypeError):
            pass  # Somebody else's object.
    return _written(value).encode("utf-8", "surrogatepass")


def _written(value: Any) -> str:
    """Return JSON without blanks."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(name)}:{_written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, _Digits) else json.dumps(value, ensure_ascii=False)


# -- The time of a change ---------------------------------------------------------------------------------


def time_of(change: Change) -> int:
    """Return when a change was made, in ms since 1970: its stream id begins with that."""
    return int(change.entry_id.partition(b"-")[0])


_EPOCH = datetime.datetime(1970, 1, 1)


def _iso(ms: int) -> bytes:
    moment = _EPOCH + datetime.timedelta(seconds=ms // 1000)
    return f"{moment.isoformat()}.{ms % 1000:03d}Z".encode()


_FORMS: tuple[Callable[[int], bytes], ...] = (
    _iso,
    # A column without fractions of a second.
    lambda ms: _iso(ms - ms % 1000),
    # A column of dates, and one of numbers.
    lambda ms: _iso(ms)[:10],
    lambda ms: b"%d" % ms,
)
_SAMPLE_MS = 1_700_000_000_123


def moment_of(column: Column) -> Make:
    """Return what makes the value of a column that holds the time of a change. Raises SchemaMismatch."""
    for form in _FORMS:
        try:
            column.convert(form(_SAMPLE_MS))
        except ConversionError:
            continue
        made = form
        return lambda seen: column.convert(made(time_of(seen.change)))
    raise SchemaMismatch(f"the column {column.name} ({column.type_text}) can't hold the time of a change")


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ConversionError("a part of it is no UTF-8 text") from None
    return str(value)
