"""What to do when the database refuses a batch: find the rows that it refuses, and apply all others."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from connectors.errors import Refused
from connectors.rows import Refusal, RowOp

#: Writes rows under a savepoint; raises Refused with nothing written.
Attempt = Callable[[Sequence[RowOp]], None]


class Isolation:
    """One run over a refused batch, by halving it under savepoints.

    ``refusals`` and ``applied`` (row operations that are in) hold the outcome.
    """

    def __init__(self, attempt: Attempt, earlier: Callable[[RowOp], Sequence[RowOp]]) -> None:
        self.refusals: list[Refusal] = []
        self.applied = 0
        self._attempt = attempt
        self._earlier = earlier
        # The latest place in the batch at which a row, or its whole table, was written.
        self._written: dict[Any, int] = {}

    def run(self, rows: Sequence[RowOp]) -> None:
        """Apply what the database takes of ``rows``; of a row that it refuses, what it takes of its past."""
        refused = self._retry(self._halve(list(enumerate(rows))))
        healed = [self._apply_earlier(place, row) for place, row, _ in refused]
        if any(healed):
            refused = self._retry(refused)
        self.refusals.extend(Refusal(row, error.reason, error.column) for _, row, error in refused)

    def _halve(self, rows: list[tuple[int, RowOp]]) -> list[tuple[int, RowOp, Refused]]:
        if not rows:
            return []
        try:
            self._attempt([row for _, row in rows])
        except Refused as error:
            if len(rows) == 1:
                return [(*rows[0], error)]
            middle = len(rows) // 2
            return self._halve(rows[:middle]) + self._halve(rows[middle:])
        self._note(rows)
        return []

    def _retry(self, refused: list[tuple[int, RowOp, Refused]]) -> list[tuple[int, RowOp, Refused]]:
        """Try refused rows again as long as that helps: a row may wait for another, such as its parent."""
        while True:
            left: list[tuple[int, RowOp, Refused]] = []
            for place, row, error in refused:
                if self._is_past(place, row):
                    left.append((place, row, error))
                else:
                    left.extend(self._halve([(place, row)]))
            if not left or len(left) == len(refused):
                return left
            refused = left

    def _apply_earlier(self, place: int, row: RowOp) -> bool:
        if self._is_past(place, row):
            return False
        helped = False
        for past in self._earlier(row):
            try:
                self._attempt([past])
            except Refused as error:
                self.refusals.append(Refusal(past, error.reason, error.column))
            else:
                self.applied += 1
                helped = True
        return helped

    def _note(self, rows: list[tuple[int, RowOp]]) -> None:
        self.applied += len(rows)
        for place, row in rows:
            identity = row.table if row.kind == "clear" else (row.table, row.key)
            self._written[identity] = max(place, self._written.get(identity, -1))

    def _is_past(self, place: int, row: RowOp) -> bool:
        """Say whether something later in the batch has written the row: an older state must not follow."""
        written = self._written
        return max(written.get((row.table, row.key), -1), written.get(row.table, -1)) > place
