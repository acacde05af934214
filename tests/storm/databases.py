"""The databases of a storm: reached by the worker through a proxy, and by the checks directly."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import sqlalchemy
from sqlalchemy.engine import Connection, make_url

from tests.servers import DatabaseServer, MariaDBServer, PostgresServer, run_sql
from tests.storm.disk import Disk
from tests.storm.proxy import Proxy

#: Who the worker is: no administrator, as limits do not hold for those.
USER = "storm"


class Database:
    """``url`` is the worker's, ``direct`` the checks' own; ``disk`` is where its files are."""

    kind = ""
    #: The size of its disk.
    megabytes = 300
    #: What the driver takes to wait no longer than some seconds.
    waits: ClassVar[dict[str, int]] = {}

    def __init__(self, folder: Path) -> None:
        self.stack = contextlib.ExitStack()
        self.folder = folder
        self.url = self.direct = ""
        self.disk: Disk
        self.proxy: Proxy | None = None
        self.server: DatabaseServer | None = None

    def start(self) -> None:
        """Start it, empty, on a disk of its own if that can be."""
        raise NotImplementedError

    def stop(self) -> None:
        self.stack.close()

    def heal(self) -> None:
        """Have it run again, and reached again."""
        if self.proxy is not None:
            self.proxy.heal()
        if self.server is not None:
            self._continue()
            if self._has_ended() or not self._answers():
                self.server.restart()

    def revive(self) -> None:
        """Have it run again if it has ended by itself, as some do when their disk is full."""
        if self.server is not None and self._has_ended():
            self.server.restart()

    def _has_ended(self) -> bool:
        process = None if self.server is None else self.server.process
        return process is None or process.poll() is not None

    def _answers(self) -> bool:
        try:
            run_sql(self.direct, "SELECT 1")
        except sqlalchemy.exc.OperationalError:
            return False
        return True

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection whose transaction is rolled back in the end."""
        engine = sqlalchemy.create_engine(self.direct, poolclass=sqlalchemy.NullPool, connect_args=self.waits)
        with engine.connect() as connection:
            yield connection

    # -- What only some have -----------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """The processes of the server."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.server is not None and self.server.process is not None:
                first = psutil.Process(self.server.process.pid)
                return [first, *first.children(recursive=True)]
        return []

    def freeze(self) -> None:
        """SIGSTOP all of it."""
        self._signal(signal.SIGSTOP)

    def _continue(self) -> None:
        self._signal(signal.SIGCONT)

    def thaw(self) -> None:
        """SIGCONT all of it."""
        self._continue()

    def _signal(self, number: signal.Signals) -> None:
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def lock(self, connection: Connection, table: str) -> None:
        """Have a whole table for this connection alone, until its transaction ends."""
        raise NotImplementedError

    def refuse_connections(self) -> None:
        """End the worker's connections, and let it have no more."""
        raise NotImplementedError

    def accept_connections(self) -> None:
        raise NotImplementedError


class SQLite(Database):
    kind = "sqlite"
    megabytes = 64
    waits: ClassVar[dict[str, int]] = {"timeout": 3}

    def start(self) -> None:
        place = self.folder / "database"
        place.mkdir()
        self.disk = Disk(place, self.megabytes)
        self.stack.callback(self.disk.unmount)
        self.url = self.direct = f"sqlite:///{place / 'storm.sqlite'}"

    def lock(self, connection: Connection, table: str) -> None:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")


class _Served(Database):
    """A server of ours."""

    def _make(self) -> DatabaseServer:
        raise NotImplementedError

    def start(self) -> None:
        server = self.server = self._make()
        self.disk = Disk(server.directory, self.megabytes)
        self.stack.callback(server.stop)
        self.stack.callback(self.disk.unmount)
        self.stack.callback(server.kill9)
        self.stack.callback(self._continue)
        server.start()
        self.proxy = self.stack.enter_context(Proxy(server.port))
        direct = make_url(server.create_database())
        self.direct = direct.render_as_string(hide_password=False)
        self.url = direct.set(username=USER, port=self.proxy.port).render_as_string(hide_password=False)
        self._make_user(str(direct.database))

    def _make_user(self, database: str) -> None:
        raise NotImplementedError


class Postgres(_Served):
    kind = "postgres"

    def _make(self) -> DatabaseServer:
        return PostgresServer()

    def _make_user(self, database: str) -> None:
        run_sql(self.direct, f"CREATE ROLE {USER} LOGIN")
        run_sql(self.direct, f"ALTER DATABASE {database} OWNER TO {USER}")
        run_sql(self.direct, f"GRANT ALL ON SCHEMA public TO {USER}")
        run_sql(self.direct, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {USER}")
        run_sql(self.direct, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO {USER}")

    def lock(self, connection: Connection, table: str) -> None:
        connection.exec_driver_sql("SET lock_timeout = '3s'")
        connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

    def refuse_connections(self) -> None:
        run_sql(self.direct, f"ALTER ROLE {USER} CONNECTION LIMIT 0")
        run_sql(
            self.direct, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'"
        )

    def accept_connections(self) -> None:
        run_sql(self.direct, f"ALTER ROLE {USER} CONNECTION LIMIT -1")


class MariaDB(_Served):
    kind = "mariadb"

    def _make(self) -> DatabaseServer:
        return MariaDBServer()

    def _make_user(self, database: str) -> None:
        run_sql(self.direct, f"CREATE USER {USER}@'127.0.0.1'")
        run_sql(self.direct, f"GRANT ALL ON {database}.* TO {USER}@'127.0.0.1'")

    def lock(self, connection: Connection, table: str) -> None:
        connection.exec_driver_sql("SET lock_wait_timeout = 3")
        connection.exec_driver_sql(f"LOCK TABLES {table} WRITE")

    def refuse_connections(self) -> None:
        # The limit of one is used up by a connection of our own.
        run_sql(self.direct, f"ALTER USER {USER}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
        run_sql(self.direct, f"KILL USER {USER}@'127.0.0.1'")

    def accept_connections(self) -> None:
        run_sql(self.direct, f"ALTER USER {USER}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")


KINDS: dict[str, type[Database]] = {each.kind: each for each in (Postgres, MariaDB, SQLite)}
