"""Intents of one key each, which are most of a group: their rows a column at a time."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.writing.blocks import Rows
from connectors.writing.units import Singles
from gears.applying import change as changes
from gears.applying.change import Changes
from gears.applying.columns import FEW, block_of, by_fields
from gears.applying.conversion import Converter
from gears.applying.intents import Intent


def singles_of(intents: Sequence[Intent], converters: Sequence[Converter]) -> Singles | None:
    """Return a unit of one row for each intent, in their order.

    None: they have to be looked at one by one. What comes out is what ``unit_of`` makes of each.
    """
    if len(intents) < FEW or len(converters) != 1 or not converters[0].takes_columns:
        return None
    [converter] = converters
    entries = [intent.entries[0] for intent in intents if len(intent.entries) == 1]
    if len(entries) < len(intents) or any(changes.INTENTS[each.op] != changes.UPSERT for each in entries):
        return None
    parts = converter.mapping.keys.columns_of([each.key for each in entries])
    if parts is None:
        return None
    all_changes = Changes.of(entries)
    blocks = []
    for fields, some in by_fields(all_changes.pairs):
        places = range(len(entries)) if some is None else some
        columns = parts if some is None else [[column[at] for at in some] for column in parts]
        block = block_of(converter, all_changes, changes.UPSERT, fields, places, columns)
        if block is None:
            return None
        blocks.append(block)
    return Singles(Rows(blocks, []))
