"""What to do when the database refuses a batch: find the rows that it refuses, and apply all others."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from sqlalchemy.engine import NestedTransaction

from connectors.errors import Refused
from connectors.rows import Refusal, RowOp

#: Writes rows under a savepoint; raises Refused with nothing written.
Attempt = Callable[[Sequence[RowOp]], None]


class _Cluster(NamedTuple):
    """All operations of a batch on one row, in their order, and where each stands in the batch."""

    places: list[int]
    rows: list[RowOp]


class Isolation:
    """One run over a refused batch, by halving it under savepoints.

    Operations on one row stay together: each counts on those before it, and what stands for an earlier state
    of one may have to come before another.

    ``refusals`` and ``applied`` (row operations that are in) hold the outcome.
    """

    def __init__(
        self,
        attempt: Attempt,
        earlier: Callable[[RowOp], Sequence[RowOp]],
        savepoint: Callable[[], NestedTransaction],
    ) -> None:
        self.refusals: list[Refusal] = []
        self.applied = 0
        self._attempt = attempt
        self._earlier = earlier
        self._savepoint = savepoint
        # The latest place in the batch at which a table was cleared.
        self._cleared: dict[str, int] = {}

    def run(self, rows: Sequence[RowOp]) -> None:
        """Apply what the database takes of ``rows``; of a row that it refuses, what it takes of its past."""
        refused = self._retry(self._halve(_by_row(rows)))
        healed = [self._apply_past(cluster, error) for cluster, error in refused]
        # Of several operations on one row is known by then which are refused.
        alone = [each for each in refused if len(each[0].rows) == 1]
        if any(healed):
            alone = self._retry(alone)
        self.refusals.extend(_refusal(cluster.rows[0], error) for cluster, error in alone)

    def _halve(self, clusters: Sequence[_Cluster]) -> list[tuple[_Cluster, Refused]]:
        if not clusters:
            return []
        try:
            self._attempt(_in_order(clusters))
        except Refused as error:
            if len(clusters) == 1:
                return [(clusters[0], error)]
            middle = len(clusters) // 2
            return self._halve(clusters[:middle]) + self._halve(clusters[middle:])
        for places, rows in clusters:
            self.applied += len(rows)
            if rows[0].kind == "clear":
                self._cleared[rows[0].table] = places[0]
        return []

    def _retry(self, refused: list[tuple[_Cluster, Refused]]) -> list[tuple[_Cluster, Refused]]:
        """Try refused rows again as long as that helps: a row may wait for another, such as its parent."""
        while True:
            left: list[tuple[_Cluster, Refused]] = []
            for each in refused:
                left.extend([each] if self._is_past(each[0]) else self._halve([each[0]]))
            if not left or len(left) == len(refused):
                return left
            refused = left

    def _apply_past(self, cluster: _Cluster, error: Refused) -> bool:
        """Apply what there is of states before a refused one; whether there was anything."""
        if self._is_past(cluster):
            if len(cluster.rows) > 1:
                self.refusals.extend(_refusal(row, error) for row in cluster.rows)
            return False
        if len(cluster.rows) == 1:
            states = self._earlier(cluster.rows[0])
            refused = self._in_turn(states)
        else:
            states, refused = self._apart(cluster.rows)
        self.refusals.extend(_refusal(*each) for each in refused)
        self.applied += len(states) - len(refused)
        return len(states) > len(refused)

    def _apart(self, rows: Sequence[RowOp]) -> tuple[Sequence[RowOp], list[tuple[RowOp, Refused]]]:
        """Apply operations on one row one after another, with the earlier states of those that are refused
        where they stood; return all that was tried, and what is refused.
        """
        savepoint = self._savepoint()
        refused = self._in_turn(rows)
        earlier = {row: self._earlier(row) for row, _ in refused}
        if not any(earlier.values()):
            savepoint.commit()
            return rows, refused
        savepoint.rollback()
        states = [state for row in rows for state in (*earlier.get(row, ()), row)]
        states.sort(key=lambda state: state.place)
        return states, self._in_turn(states)

    def _in_turn(self, states: Sequence[RowOp]) -> list[tuple[RowOp, Refused]]:
        """Apply operations on one row one after another; return those that are refused."""
        if not states:
            return []
        try:
            self._attempt(states)
        except Refused as error:
            if len(states) == 1:
                return [(states[0], error)]
            middle = len(states) // 2
            return self._in_turn(states[:middle]) + self._in_turn(states[middle:])
        return []

    def _is_past(self, cluster: _Cluster) -> bool:
        """Whether its table was cleared later in the batch: an older state must not follow."""
        return self._cleared.get(cluster.rows[0].table, -1) > cluster.places[0]


def _by_row(rows: Sequence[RowOp]) -> list[_Cluster]:
    """Gather the operations on each row, in the order of the first ones; a clear parts those around it."""
    found: dict[Any, _Cluster] = {}
    clears: dict[str, int] = {}
    for place, row in enumerate(rows):
        if row.kind == "clear":
            clears[row.table] = place
        cluster = found.setdefault((row.table, row.key, clears.get(row.table)), _Cluster([], []))
        cluster.places.append(place)
        cluster.rows.append(row)
    return list(found.values())


def _in_order(clusters: Sequence[_Cluster]) -> list[RowOp]:
    placed = [pair for places, rows in clusters for pair in zip(places, rows)]
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _refusal(row: RowOp, error: Refused) -> Refusal:
    return Refusal(row, error.reason, error.column)
