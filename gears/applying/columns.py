"""Changes of a batch to row operations, a column at a time (``connectors/writing/blocks.py``).

What comes out is what ``Converter.row`` makes of each change, which also gets all that does not fit.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Collection, NamedTuple, Optional, Sequence, Tuple

from connectors import ConversionError
from connectors.values.bulk import many_of
from connectors.writing.blocks import Block
from gears.applying import change as changes
from gears.applying.change import Changes
from gears.applying.coalescing import PLAIN, coalesce
from gears.applying.conversion import Converter
from gears.applying.matching import Match, Matching

FIRST_FIELD, FIRST_VALUE = 4, 5
"""Where they stand in the pairs of an entry."""
FEW = 3
"""Fewer rows are not worth a block."""

Images = Tuple[Tuple[bytes, ...], Optional[Sequence[int]]]
"""The fields of some images, and the indexes of those that have them; None: all do."""


class Single(NamedTuple):
    """A change whose row is made by itself, under ``op``; ``parts`` is what the key template matched."""

    place: int
    op: bytes
    converter: Converter
    parts: tuple[bytes, ...]


class Together:
    """What of a batch can be taken together. ``others``: the places of changes to look at in their order.

    ``taken``: how many changes each function had; ``skipped``: how many none covers; ``apart``: keys of which
    nothing is taken together.
    """

    def __init__(self, all_changes: Changes, matching: Matching, apart: Collection[bytes] = ()) -> None:
        self.blocks: list[Block] = []
        self.singles: list[Single] = []
        self.taken: dict[str, int] = {}
        self.skipped = 0
        self.others: Sequence[int] = range(len(all_changes))
        self._changes = all_changes
        self._ops = {meta[:1] for meta in changes.metas_of(all_changes)}
        if self._ops <= PLAIN and matching.coalesces:
            self._take(matching, apart)

    def _take(self, matching: Matching, apart: Collection[bytes]) -> None:
        found = coalesce(self._changes, self._ops, apart)
        self.others = found.others
        covered: set[int] = set()
        for match in matching.of_keys(found.keys):
            indexes = range(len(found.keys)) if match.indexes is None else match.indexes
            covered.update(indexes)
            name = match.converter.function.name
            self.taken[name] = self.taken.get(name, 0) + found.count(indexes)
            self._take_match(match, _at(found.places, match.indexes))
        if len(covered) < len(found.keys):
            missed = [index for index in range(len(found.keys)) if index not in covered]
            self.skipped = found.count(missed)

    def _take_match(self, match: Match, places: Sequence[int]) -> None:
        if len(self._ops) == 1:
            (op,) = self._ops
            self._take_operation(match.converter, op, places, match.parts)
            return
        indexes: dict[bytes, list[int]] = {}
        for index, place in enumerate(places):
            indexes.setdefault(self._changes.pairs[place][3][:1], []).append(index)
        for op, some in indexes.items():
            parts = [_at(column, some) for column in match.parts]
            self._take_operation(match.converter, op, _at(places, some), parts)

    def _take_operation(
        self, converter: Converter, op: bytes, places: Sequence[int], parts: Sequence[Sequence[bytes]]
    ) -> None:
        if op in changes.GONE:
            if not converter.keeps(op):
                self._add(converter, op, (), places, parts, not converter.marks(op))
            return
        for fields, some in by_fields(self._changes.pairs_at(places)):
            columns = parts if some is None else [_at(column, some) for column in parts]
            self._add(converter, op, fields, _at(places, some), columns)

    def _add(
        self,
        converter: Converter,
        op: bytes,
        fields: tuple[bytes, ...],
        places: Sequence[int],
        parts: Sequence[Sequence[bytes]],
        as_block: bool = True,
    ) -> None:
        block = None
        if as_block and converter.takes_columns and len(places) >= FEW:
            block = block_of(converter, self._changes, op, fields, places, parts)
        if block is not None:
            self.blocks.append(block)
        else:
            self.singles += [Single(place, op, converter, each) for place, each in zip(places, zip(*parts))]


def _at(values: Sequence[Any], indexes: Sequence[int] | None) -> Sequence[Any]:
    """Return the values at ``indexes``; None: all of them."""
    return values if indexes is None else [values[index] for index in indexes]


def by_fields(pairs: Sequence[list[bytes]]) -> list[Images]:
    """Tell images of different fields apart; each comes with its indexes in ``pairs``."""
    first = pairs[0][FIRST_FIELD::2]
    if [each[FIRST_FIELD::2] for each in pairs].count(first) == len(pairs):
        return [(tuple(first), None)]
    found: dict[tuple[bytes, ...], list[int]] = {}
    for index, each in enumerate(pairs):
        found.setdefault(tuple(each[FIRST_FIELD::2]), []).append(index)
    return list(found.items())


def block_of(
    converter: Converter,
    all_changes: Changes,
    op: bytes,
    fields: tuple[bytes, ...],
    places: Sequence[int],
    parts: Sequence[Sequence[bytes]],
) -> Block | None:
    """Return the operations for the changes at ``places``, which have the same ``fields`` and ``op``.

    ``parts``: what the key template matched, name by name. None: some value does not fit its column.
    """
    table, pairs = converter.mapping.table, all_changes.pairs_at(places)

    def origin_at(index: int) -> object:
        return all_changes[places[index]], converter, op

    try:
        values: list[Sequence[Any]] = [many_of(convert)(parts[at]) for at, convert in converter.key_order]
        width = len(values)
        if op in changes.GONE:
            return Block(table, "delete", width, (), values, places, origin_at)
        shape = converter.shape(fields)
        for at, convert in shape.picks:
            values.append(many_of(convert)(list(map(itemgetter(FIRST_VALUE + 2 * at), pairs))))
    except ConversionError:
        return None
    form = converter.form(shape, op)
    values += [(None,) * len(places)] * form.filled
    more = (form.nulls, form.defaults, form.mark, form.resets)
    return Block(table, "upsert", width, form.columns, values, places, origin_at, *more)
