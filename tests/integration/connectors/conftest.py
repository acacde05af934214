"""One database after the other, each with its connector and a claimed stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from connectors import Applied, Claim, Connector, Position, Refusal, RowOp, connect
from connectors.sqlite import SQLiteConnector
from tests.servers import run_sql

STREAM = "gearsync:{0}:lane:0123456789ab:people:reporting:0.1"


class PortableConnector(SQLiteConnector):
    """SQLite, written to by the portable way that a new dialect starts with."""

    _upsert = Connector._upsert
    _delete = Connector._delete
    _select = Connector._select
    compares_rows = False


class Database:
    """A connector on a fresh database, and the shortest ways to use it."""

    def __init__(self, url: str, connector: Connector) -> None:
        self.url = url
        self.connector = connector
        self.refusals: list[Refusal] = []
        self.step = 0
        connector.ensure_checkpoint()
        self.claim: Claim = connector.claim(STREAM, 1, "worker-1")

    @property
    def backend(self) -> str:
        """postgresql, mysql or sqlite."""
        return make_url(self.url).get_backend_name()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own; its rows as tuples."""
        if self.backend == "mysql":
            statement = statement.replace('"', "`")
        return [tuple(row) for row in run_sql(self.url, statement)]

    def next_position(self) -> Position:
        """Return a position ahead of all before."""
        self.step += 1
        return Position(1, self.step, 0)

    def apply(self, *rows: RowOp, earlier: dict[RowOp, Sequence[RowOp]] | None = None) -> Applied:
        """Apply rows at the next position; refusals are collected in ``refusals``."""
        past = earlier or {}
        return self.connector.apply(
            self.claim, self.next_position(), rows, self.refusals.extend, lambda row: past.get(row, ())
        )

    def upsert(
        self, table: str, values: dict[str, Any], nulls: Sequence[str] = (), defaults: Sequence[str] = ()
    ) -> RowOp:
        """Return an upsert of values that are converted by the columns first."""
        columns = self.connector.table(table).columns
        primary_key = self.connector.table(table).primary_key
        names = (*primary_key, *(name for name in values if name not in primary_key))
        converted = {name: columns[name].convert(values[name]) for name in names}
        key = tuple(converted[name] for name in primary_key)
        row = tuple(converted[name] for name in names)
        return RowOp(table, "upsert", key, names, row, tuple(nulls), tuple(defaults))

    def delete(self, table: str, *key: object) -> RowOp:
        """Return a delete by key."""
        names = self.connector.table(table).primary_key
        columns = self.connector.table(table).columns
        values = tuple(columns[name].convert(value) for name, value in zip(names, key))
        return RowOp(table, "delete", values)

    def checkpoint(self) -> tuple[Any, ...]:
        """Return epoch, ms, seq and applied of the stream."""
        return self.sql("SELECT epoch, ms, seq, applied FROM gearsync_checkpoint")[0]


def wait_for_a_waiter(database: Database) -> None:
    """Wait until somebody waits for a lock."""
    query = {
        "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        "mysql": "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }[database.backend]
    deadline = time.monotonic() + 20
    while database.sql(query) == [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["postgres", "mariadb", "sqlite", "portable"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database of each kind, and the portable connector on SQLite."""
    portable = request.param == "portable"
    url = request.getfixturevalue("sqlite_url" if portable else f"{request.param}_url")
    connector = PortableConnector(make_url(url)) if portable else connect(url)
    yield Database(url, connector)
    connector.close()


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[Database]:
    """A fresh PostgreSQL database."""
    connector = connect(postgres_url)
    yield Database(postgres_url, connector)
    connector.close()


@pytest.fixture
def on_mysql(mariadb_url: str) -> Iterator[Database]:
    """A fresh MariaDB or MySQL database."""
    connector = connect(mariadb_url)
    yield Database(mariadb_url, connector)
    connector.close()


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Database]:
    """A fresh SQLite database."""
    connector = connect(sqlite_url)
    yield Database(sqlite_url, connector)
    connector.close()
