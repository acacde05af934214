"""What to do when the database refuses a batch of units that stay whole: leave out those that it refuses."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from sqlalchemy.engine import NestedTransaction

from connectors.errors import Refused
from connectors.rows import Refusal, RowOp
from connectors.writing.isolation import Attempt, Isolation
from connectors.writing.units import Unit


class _Left(NamedTuple):
    """A unit that is not in: its place among the units, and why."""

    place: int
    unit: Unit
    refusals: list[Refusal]


class WholeIsolation:
    """One run over a refused batch: its units one after another, by halving, each whole or not at all.

    ``refusals`` (at least one for each unit that is not in) and ``applied`` (row operations that are in) hold
    the outcome. No older state of a row has to be looked for: the unit that brought it stands before.
    """

    def __init__(self, attempt: Attempt, savepoint: Callable[[], NestedTransaction]) -> None:
        self.refusals: list[Refusal] = []
        self.applied = 0
        self._attempt = attempt
        self._savepoint = savepoint
        # The latest place of a unit that wrote a row, or its whole table.
        self._written: dict[Any, int] = {}

    def run(self, units: Sequence[Unit]) -> None:
        """Apply the units that the database takes, in their order."""
        refused = self._halve(list(enumerate(units)))
        while refused:
            # One may wait for another, as a child for its parent.
            left: list[_Left] = []
            for each in refused:
                past = self._is_past(each)
                left.extend([each] if past else self._halve([(each.place, each.unit)]))
            if len(left) == len(refused):
                break
            refused = left
        self.refusals.extend(refusal for each in refused for refusal in each.refusals)

    def _halve(self, units: list[tuple[int, Unit]]) -> list[_Left]:
        if not units:
            return []
        try:
            self._attempt([row for _, unit in units for row in unit])
        except Refused as error:
            if len(units) > 1:
                middle = len(units) // 2
                return self._halve(units[:middle]) + self._halve(units[middle:])
            place, unit = units[0]
            refusals = self._row_by_row(unit, error)
            if refusals:
                return [_Left(place, unit, refusals)]
        self._note(units)
        return []

    def _row_by_row(self, unit: Unit, error: Refused) -> list[Refusal]:
        """Find out which rows of one unit are refused; when none is, all of it is in."""
        if len(unit) == 1:
            return [Refusal(unit[0], error.reason, error.column)]
        savepoint = self._savepoint()
        isolation = Isolation(self._attempt, lambda row: (), self._savepoint)
        isolation.run(unit)
        if isolation.refusals:
            savepoint.rollback()
        else:
            savepoint.commit()
        return isolation.refusals

    def _note(self, units: list[tuple[int, Unit]]) -> None:
        for place, unit in units:
            self.applied += len(unit)
            for row in unit:
                identity = row.table if row.kind == "clear" else (row.table, row.key)
                self._written[identity] = max(place, self._written.get(identity, -1))

    def _is_past(self, left: _Left) -> bool:
        """Say whether a later unit has written one of its rows: an older state must not follow."""
        return any(self._last(row) > left.place for row in left.unit)

    def _last(self, row: RowOp) -> int:
        written = self._written
        return max(written.get((row.table, row.key), -1), written.get(row.table, -1))
