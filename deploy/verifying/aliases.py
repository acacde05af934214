"""Keys that are not written as their rows' own keys are: ``person:007``, whose row is 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.tables import Table
from gears.declaring.errors import KeyPartError
from gears.declaring.functions import Function

MOST = 1_000_000
"""How many are remembered."""


class Aliases(set[bytes]):
    """The keys that rows would have, of which there are keys by another name.

    ``unkeyed`` are the parts of keys that rows would have if the template could tell them apart: of a row
    with a timestamp in its key, which is written with colons, the key has seconds since 1970, say. ``order``:
    which part of the key each column of ``places`` is.
    """

    def __init__(self, function: Function, table: Table, order: Sequence[int]) -> None:
        super().__init__()
        self.unkeyed: set[tuple[bytes, ...]] = set()
        self._template = function.mapping.keys
        names = function.mapping.keys.names
        self._texts = [table.columns[name].text.encode for name in names]
        self._places = [order.index(at) for at in range(len(names))]

    def note(self, parts: Sequence[bytes], place: Sequence[Any]) -> None:
        """Remember the key of a row, unless it is the very one that has these parts."""
        for part, at, encode in zip(parts, self._places, self._texts):
            value = place[at]
            if (b"%d" % value if type(value) is int else encode(value)) != part:
                break
        else:
            return
        if len(self) + len(self.unkeyed) < MOST:
            texts = [encode(place[at]) for at, encode in zip(self._places, self._texts)]
            try:
                self.add(self._template.format(texts))
            except KeyPartError:
                self.unkeyed.add(tuple(texts))
