"""The outbox on SQLite, where one transaction writes at a time: the order of ids is that of commits."""

from __future__ import annotations

from connectors.base import Connector
from connectors.outbox.base import Entry, Outbox, entry


class SQLiteOutbox(Outbox):
    """A position is an id."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._last = 0

    def now(self) -> str:
        with self._connector.transaction(reads=True) as connection:
            return str(self._highest(connection))

    def _go_to(self, where: str) -> bool:
        self._last = int(where)
        return self._last <= int(self.now())

    @property
    def _same_entry(self) -> str:
        return f"SELECT 1 FROM {self._place} WHERE id = ? AND at = ?"

    @property
    def _where(self) -> str:
        return str(self._last)

    def read(self, most: int) -> list[Entry]:
        query = f"SELECT id, name, pk, at FROM {self._place} WHERE id > ? ORDER BY id LIMIT ?"
        with self._connector.transaction(reads=True) as connection:
            rows = self._rows(connection, query, (self._last, most))
            if not rows:
                self._require_as_new(connection, self._last)
        if rows:
            self._last = rows[-1][0]
            self._newest = (str(self._last), rows[-1][3])
        return [entry(row[1], row[2]) for row in rows]

    def _horizon(self, where: str) -> int:
        return int(where) + 1

    def prune(self, horizon: int, most: int) -> int:
        # The last one stays: by it, a position is known to be of this outbox.
        wanted = (
            f"SELECT id FROM {self._place} WHERE id < ? AND id < (SELECT max(id) FROM {self._place}) "
            "ORDER BY id LIMIT ?"
        )
        with self._connector.transaction() as connection:
            statement = f"DELETE FROM {self._place} WHERE id IN ({wanted})"
            return int(connection.exec_driver_sql(statement, (horizon, most)).rowcount)
