"""The outbox on PostgreSQL: a position is a snapshot, and what comes next is what it did not see.

Transactions do not commit in the order of their numbers. So each entry has its transaction's number, and what
is read is exactly what is visible now and was not in the snapshot before: nothing is passed, and a
transaction that is open for long holds up only its own entries.
"""

from __future__ import annotations

import contextlib
import select
import time
from typing import Any, Iterator

import psycopg

from connectors.base import Connector
from connectors.errors import Unavailable
from connectors.outbox.base import Entry, Outbox, Waker, entry
from connectors.triggers.postgres import CHANNEL

_SNAPSHOT = "SELECT pg_current_snapshot()::text"
# What ran in the last snapshot, and what began after it. Each part goes along the index, from where the last
# read ended: a transaction may have written millions.
_COLUMNS = "o.xid::text, o.id::text, o.name, o.pk, o.xid AS number, o.id AS tie"
_VISIBLE = "pg_visible_in_snapshot(o.xid, CAST(%s AS pg_snapshot))"
_RAN = f"""
(SELECT found.* FROM unnest(CAST(%s AS xid8[]), CAST(%s AS uuid[])) AS ran(xid, id) CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM {{place}} o WHERE o.xid = ran.xid AND o.id > ran.id AND {_VISIBLE}
    ORDER BY o.id LIMIT %s) AS found ORDER BY number, tie LIMIT %s)
"""
_NEW = f"""
(SELECT {_COLUMNS} FROM {{place}} o WHERE (o.xid, o.id) > (CAST(%s AS xid8), CAST(%s AS uuid)) AND {_VISIBLE}
 ORDER BY o.xid, o.id LIMIT %s)
"""
_PRUNE = """
DELETE FROM {place} WHERE (xid, id) IN (
    SELECT xid, id FROM {place} WHERE xid < CAST(%s AS xid8) ORDER BY xid, id LIMIT %s FOR UPDATE SKIP LOCKED)
"""
_FIRST = ("0", "00000000-0000-0000-0000-000000000000")


class PostgresOutbox(Outbox):
    """A position is a snapshot; while the way from one to the next is long, both and how far it is."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._last = ""
        self._target = ""
        self._after = _FIRST

    def now(self) -> str:
        with self._connector.transaction(reads=True) as connection:
            return str(self._rows(connection, _SNAPSHOT)[0][0])

    def _go_to(self, where: str) -> bool:
        self._last, self._target, *after = [*where.split(" "), "", *_FIRST][:4]
        self._after = (after[0], after[1])
        return _limits(self._target or self._last)[1] <= _limits(self.now())[1]

    @property
    def _same_entry(self) -> str:
        return f"SELECT 1 FROM {self._place} WHERE xid = CAST(%s AS xid8) AND id = CAST(%s AS uuid)"

    @property
    def _where(self) -> str:
        return " ".join([self._last, self._target, *self._after]) if self._target else self._last

    def read(self, most: int) -> list[Entry]:
        with self._connector.transaction(reads=True) as connection:
            if not self._target:
                now = str(self._rows(connection, _SNAPSHOT)[0][0])
                if now == self._last:
                    return []
                self._target, self._after = now, _FIRST
            ran, new = self._bounds()
            arrays = ["{" + ",".join(words) + "}" for words in (ran, ran.values())]
            parameters = [*arrays, self._target, most, most, *new, self._target, most, most]
            query = f"{_RAN} UNION ALL {_NEW} ORDER BY number, tie LIMIT %s".format(place=self._place)
            rows = self._rows(connection, query, parameters)
        if rows:
            self._newest = (rows[-1][0], rows[-1][1])
        if len(rows) < most:
            self._last, self._target, self._after = self._target, "", _FIRST
        else:
            self._after = (rows[-1][0], rows[-1][1])
        return [entry(row[2], row[3]) for row in rows]

    def _bounds(self) -> tuple[dict[str, str], tuple[str, str]]:
        """Return behind which entry each transaction that ran in the last snapshot goes on, and those that
        began after it.
        """
        _, first_new, running = _limits(self._last)
        number = int(self._after[0])
        left = [xid for xid in running.split(",") if xid and int(xid) >= number]
        ran = {xid: self._after[1] if int(xid) == number else _FIRST[1] for xid in left}
        return ran, self._after if number >= first_new else (str(first_new), _FIRST[1])

    def _horizon(self, where: str) -> int:
        return _limits(where.split(" ")[0])[0]

    def prune(self, horizon: int, most: int) -> int:
        with self._connector.transaction() as connection:
            done = connection.exec_driver_sql(_PRUNE.format(place=self._place), (str(horizon), most))
            return int(done.rowcount)

    def waker(self) -> Waker:
        return _Listener(self._connector)


class _Listener(Waker):
    def __init__(self, connector: Connector) -> None:
        with _translated():
            self._pooled = connector.raw_connection()
            self._raw: psycopg.Connection[Any] = self._pooled.driver_connection
            self._raw.autocommit = True
            self._raw.execute(f"LISTEN {CHANNEL}")

    def wait(self, seconds: float) -> bool:
        with _translated():
            return self._wait(seconds)

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._heard():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self._raw.fileno()], [], [], left)
        return True

    def _heard(self) -> bool:
        connection: Any = self._raw.pgconn
        connection.consume_input()
        heard = False
        while connection.notifies() is not None:
            heard = True
        return heard

    def close(self) -> None:
        # Not back into the pool: it listens.
        self._pooled.invalidate()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise Unavailable("the connection that waits for notifications is lost") from error


def _limits(snapshot: str) -> tuple[int, int, str]:
    """Return the lowest number that still runs in a snapshot, the first one after it, and those that run."""
    lowest, first, running = snapshot.split(":")
    return int(lowest), int(first), running
