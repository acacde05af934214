"""Units: rows that are committed together or not at all, many units in one transaction."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from connectors.errors import ConnectorError, Refused, SchemaMismatch
from connectors.rows import RowOp
from connectors.writing.blocks import Rows

#: The rows of one write: of each table that it reaches, and of each key.
Unit = Sequence[RowOp]


class Singles(Sequence[Unit]):
    """Units of one row each, which are made when they are asked for: most never are."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        return [[row] for row in self.rows[at]] if isinstance(at, slice) else [self.rows[at]]


def rows_of(units: Sequence[Unit]) -> Sequence[RowOp]:
    """Return the rows of all units."""
    return units.rows if isinstance(units, Singles) else [row for unit in units for row in unit]


#: Writes rows under a savepoint; raises Refused or SchemaMismatch with nothing written.
Attempt = Callable[[Sequence[RowOp]], None]


def write_apart(units: Sequence[Unit], attempt: Attempt) -> dict[int, ConnectorError]:
    """Write the units that the database takes, by halving them; return why it refused others, by place.

    A refused unit is tried again as long as that helps, for it may need a row of another.
    """
    refused = _halve(list(enumerate(units)), attempt)
    while refused:
        again: dict[int, ConnectorError] = {}
        for place in refused:
            again.update(_halve([(place, units[place])], attempt))
        if len(again) == len(refused):
            return again
        refused = again
    return {}


def _halve(units: list[tuple[int, Unit]], attempt: Attempt) -> dict[int, ConnectorError]:
    if not units:
        return {}
    try:
        attempt([row for _, unit in units for row in unit])
    except (Refused, SchemaMismatch) as error:
        if len(units) == 1:
            return {units[0][0]: error}
        middle = len(units) // 2
        return {**_halve(units[:middle], attempt), **_halve(units[middle:], attempt)}
    return {}
