"""Which converter a function has: that of its type of keys, or of a history."""

from __future__ import annotations

from connectors import Connector
from gears.applying.added import Origin
from gears.applying.conversion import NOWHERE, Converter
from gears.applying.documents import DocumentConverter
from gears.applying.history import HistoryConverter
from gears.applying.members import MembersConverter
from gears.declaring import kinds
from gears.declaring.functions import Function, Transform


def converter_for(
    function: Function, transform: Transform | None, connector: Connector, origin: Origin = NOWHERE
) -> Converter:
    """Return what makes row operations for a function. Raises SchemaMismatch: a column is missing."""
    if function.mapping.type == kinds.JSON:
        return DocumentConverter(function, transform, connector, origin)
    if function.mapping.additions.history:
        return HistoryConverter(function, transform, connector, origin)
    if kinds.has_members(function.mapping.type):
        return MembersConverter(function, transform, connector, origin)
    return Converter(function, transform, connector, origin)
