"""A function, however it was declared, and what its transform sees."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from gears.declaring import kinds, patterns
from gears.declaring import mapping as mappings
from gears.declaring.errors import Mistake
from gears.declaring.mapping import Mapping
from gears.declaring.patterns import Pattern

Value = Union[str, bytes]
Constant = Union[str, int, float, bool]
Transform = Callable[["Change"], Optional["Change"]]


class Change:
    """One captured change, as a transform sees it; everything may be replaced, values by any Python value.

    ``key``: the Redis key. ``op``: ``"upsert"`` or ``"delete"``. ``fields``: the captured fields that the
    hash has, by name (empty for a delete). ``primary_key``: the parts of the key by their names in the
    template. Keys and values are str when they are UTF-8, else bytes. Names of fields are always str, in
    which ``surrogateescape`` stands for bytes that are no UTF-8, as in Python's own names of files.
    """

    __slots__ = ("fields", "key", "op", "primary_key")

    def __init__(self, key: Value, op: str, fields: dict[str, Any], primary_key: dict[str, Any]) -> None:
        self.key = key
        self.op = op
        self.fields = fields
        self.primary_key = primary_key

    def __repr__(self) -> str:
        return f"Change({self.key!r}, {self.op!r}, {self.fields!r}, {self.primary_key!r})"


_BEHIND = patterns.Behind()


class Function:
    """One validated function of a deployment.

    ``transform_name`` names its transform in the deployed source, None: it has none. ``place`` says where
    it was declared (``functions.py:8``); it is empty for a function that comes out of Redis.
    """

    def __init__(
        self,
        name: str,
        mapping: Mapping,
        target_name: str,
        transform_name: str | None = None,
        place: str = "",
        pattern: Pattern = _BEHIND,
    ) -> None:
        self.name = name
        self.mapping = mapping
        self.target_name = target_name
        self.transform_name = transform_name
        self.place = place
        self.pattern = pattern

    @property
    def kind(self) -> str:
        """``write-behind``, ``write-through``, ``read-through`` or ``write-around``."""
        return self.pattern.kind

    @property
    def captures(self) -> bool:
        """Whether writes of its keys go to SQL."""
        return self.pattern.captures

    def captured_fields(self) -> list[str] | None:
        """Return the hash fields that each change carries, mapped ones first; None: the whole hash.

        Keys of another type have no fields: what is captured of them is told by their type.
        """
        mapping = self.mapping
        if mapping.type != kinds.HASH:
            return []
        if mapping.fields is None and (self.transform_name is not None or mapping.additions.rest):
            return None
        return list(dict.fromkeys([*mapping.columns, *(mapping.fields or ()), *mapping.additions.fields]))

    def __repr__(self) -> str:
        return f"Function({self.name!r}, {self.mapping!r}, target_name={self.target_name!r})"


def build(
    kind: str, options: dict[str, Any], target_name: str, transform_name: str | None, place: str
) -> tuple[Function | None, list[Mistake]]:
    """Make a function of what a user wrote: ``name``, the options of a mapping and those of its kind; None:
    it has mistakes.
    """
    pattern, problems = patterns.build(kind, options)
    writes = patterns.PATTERNS[kind].captures
    mapping, more = mappings.build(options, transform_name is not None, _needs_columns(kind, options), writes)
    problems = more + problems
    name = options.get("name")
    if name is None:
        name = default_name(kind, options.get("table"))
    elif not mappings.is_text(name) or not name.isprintable():
        problems.append(("name", f"{name!r} is no name; write a text of printable characters"))
    shown = str(name) if mappings.is_text(name) else ""
    if mapping is None or pattern is None or problems:
        return None, [Mistake(place, shown, option, message) for option, message in problems]
    return Function(shown, mapping, target_name, transform_name, place, pattern), []


def _needs_columns(kind: str, options: dict[str, Any]) -> bool:
    return kind != patterns.Around.kind or options.get("on_change") == "refresh"


def default_name(kind: str, table: Any) -> Any:
    """A table often has a function that writes and one that reads: their names must differ."""
    return table if patterns.PATTERNS[kind].captures or not table else f"{table} {kind}"
