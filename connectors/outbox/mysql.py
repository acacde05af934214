"""The outbox on MySQL and MariaDB: read by id, and gaps between ids are waited for.

Ids are drawn in order, but transactions commit in another: one with a lower id can appear after one with a
higher id. So each id that was passed over is remembered, and looked for at each read. It is given up when a
reading that takes locks finds nothing there, ``GRACE_SECONDS`` after it was passed over: a row that is not
committed yet is locked. That would be wrong only if an INSERT into the outbox, once it has drawn its id, took
longer than this time to store its row.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.base import Connector
from connectors.outbox.base import Entry, Outbox, entry

GRACE_SECONDS = 30.0
_RANGES = 200
"""The most gaps in one statement."""
_LOCKED = (1205, 1213, 3572)
"""The numbers of errors by which a lock is refused."""


class _Gap:
    """Ids that were passed over, first and last; ``due``: when to find out whether any can still come."""

    __slots__ = ("due", "first", "last")

    def __init__(self, first: int, last: int, due: float) -> None:
        self.first = first
        self.last = last
        self.due = due


class MySQLOutbox(Outbox):
    """A position is an id below which nothing can appear any more."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        # For statements with parameters.
        self._place = self._place.replace("%", "%%")
        self._last = 0
        self._gaps: list[_Gap] = []

    def now(self) -> str:
        # Of a transaction that is open already, any id can come.
        return "0"

    def _go_to(self, where: str) -> bool:
        self._last = int(where)
        self._gaps = []
        with self._connector.transaction(reads=True) as connection:
            return self._last <= self._highest(connection)

    @property
    def _same_entry(self) -> str:
        return f"SELECT 1 FROM {self._place} WHERE id = %s AND UNIX_TIMESTAMP(at) = %s"

    @property
    def _where(self) -> str:
        return str(self._gaps[0].first - 1 if self._gaps else self._last)

    def read(self, most: int) -> list[Entry]:
        found = self._settle_gaps(most)
        with self._connector.transaction(reads=True) as connection:
            found += self._read_gaps(connection, most)
            columns = "id, name, pk, UNIX_TIMESTAMP(at)"
            query = f"SELECT {columns} FROM {self._place} WHERE id > %s ORDER BY id LIMIT %s"
            rows = self._rows(connection, query, (self._last, most))
            if not rows:
                self._require_as_new(connection, self._last)
        due = time.monotonic() + GRACE_SECONDS
        for row in rows:
            if row[0] > self._last + 1:
                self._gaps.append(_Gap(self._last + 1, row[0] - 1, due))
            self._last = row[0]
        if rows:
            self._newest = (str(rows[-1][0]), str(rows[-1][3]))
        return [entry(row[1], row[2]) for row in [*found, *rows]]

    def _horizon(self, where: str) -> int:
        return int(where) + 1

    def prune(self, horizon: int, most: int) -> int:
        # The last one stays: by it, a position is known to be of this outbox.
        query = (
            f"SELECT id FROM {self._place} WHERE id < %s AND id < (SELECT MAX(id) FROM {self._place}) "
            "ORDER BY id LIMIT %s"
        )
        with self._connector.transaction() as connection:
            ids = ", ".join(str(row[0]) for row in self._rows(connection, query, (horizon, most)))
            if not ids:
                return 0
            # By id: a range would wait for the row behind it, which may be somebody's for long.
            done = connection.exec_driver_sql(f"DELETE FROM {self._place} WHERE id IN ({ids})", ())
            return int(done.rowcount)

    # -- Gaps ----------------------------------------------------------------------------------------------

    def _read_gaps(self, connection: Connection, most: int) -> list[tuple[int, str, str | None]]:
        """Return what has appeared in gaps by now, at most so many: a transaction may have written more."""
        found: list[tuple[int, str, str | None]] = []
        for start in range(0, len(self._gaps), _RANGES):
            if len(found) < most:
                found += self._select(connection, self._gaps[start : start + _RANGES], most - len(found))
        self._close(found)
        return found

    def _settle_gaps(self, most: int) -> list[tuple[int, str, str | None]]:
        """Give up gaps in which nothing can appear any more; return what was there at last, at most so many:
        then the rest is found out at the next read.
        """
        now = time.monotonic()
        due = [gap for gap in self._gaps if gap.due <= now][:_RANGES]
        found = self._lock(due, most) if due else []
        open_ones = set()
        if found is None:
            # Some row there is not committed yet. Which?
            found = []
            for gap in due:
                alone = self._lock([gap], most - len(found)) if len(found) < most else []
                found += alone or []
                if alone is None:
                    gap.due = now + GRACE_SECONDS
                    open_ones.add(gap)
        if len(found) >= most:
            self._close(found)
            return found
        over = set(due) - open_ones
        self._gaps = [gap for gap in self._gaps if gap not in over]
        return found

    def _lock(self, gaps: list[_Gap], most: int) -> list[tuple[int, str, str | None]] | None:
        """Return the first of what is in gaps; None: some of it is not committed yet."""
        with self._connector.transaction() as connection:
            mariadb = getattr(connection.dialect, "is_mariadb", False)
            locking = " LOCK IN SHARE MODE NOWAIT" if mariadb else " FOR SHARE NOWAIT"
            try:
                return self._select(connection, gaps, most, locking)
            except sa.exc.DBAPIError as error:
                if error.orig is None or error.orig.args[0] not in _LOCKED:
                    raise
                return None

    def _select(
        self, connection: Connection, gaps: list[_Gap], most: int, locking: str = ""
    ) -> list[tuple[int, str, str | None]]:
        ranges = " OR ".join(f"id BETWEEN {gap.first} AND {gap.last}" for gap in gaps)
        query = f"SELECT id, name, pk FROM {self._place} WHERE {ranges} ORDER BY id LIMIT {most}{locking}"
        return [tuple(row) for row in self._rows(connection, query)]

    def _close(self, found: list[tuple[int, str, str | None]]) -> None:
        """Take ids that were found out of the gaps; both are in the order of ids."""
        left: list[_Gap] = []
        gaps = list(reversed(self._gaps))
        for number, _, _ in found:
            while gaps and gaps[-1].last < number:
                left.append(gaps.pop())
            if not gaps or gaps[-1].first > number:
                continue
            gap = gaps.pop()
            if gap.first < number:
                left.append(_Gap(gap.first, number - 1, gap.due))
            if number < gap.last:
                gaps.append(_Gap(number + 1, gap.last, gap.due))
        self._gaps = left + gaps[::-1]
