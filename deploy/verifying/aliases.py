"""Keys that are not written as their rows' own keys are: ``person:007``, whose row is 7."""

from __future__ import annotations

from collections.abc import Sequence

from connectors import Column, ConversionError
from gears.declaring.errors import KeyPartError
from gears.declaring.functions import Function

MOST = 1_000_000
"""How many are remembered."""


class Aliases(set[bytes]):
    """The keys that rows would have, of which there are keys by another name.

    ``unkeyed`` are the parts of keys that rows would have if the template could tell them apart: of a row
    with a timestamp in its key, which is written with colons, the key has seconds since 1970, say. ``order``:
    which part of the key each column of a row's texts is.
    """

    def __init__(self, function: Function, order: Sequence[int]) -> None:
        super().__init__()
        self.unkeyed: set[tuple[bytes, ...]] = set()
        self._template = function.mapping.keys
        self._places = [order.index(at) for at in range(len(function.mapping.keys.names))]

    def note(self, parts: Sequence[bytes], texts: Sequence[bytes | None]) -> None:
        """Remember the key of a row with these texts, unless it is the very one that has these parts."""
        own = tuple([texts[at] or b"" for at in self._places])
        if own != tuple(parts) and len(self) + len(self.unkeyed) < MOST:
            try:
                self.add(self._template.format(own))
            except KeyPartError:
                self.unkeyed.add(own)


def is_whole(column: Column) -> bool:
    """Whether a column of a key holds whole numbers, of which it is known how the database writes them."""
    try:
        column.convert(b"1.5")
    except ConversionError:
        try:
            return type(column.convert(b"1")) is int
        except ConversionError:
            return False
    return False
