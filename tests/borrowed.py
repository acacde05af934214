"""Database servers that the tests did not make themselves: given by a URL, or run by Docker."""

from __future__ import annotations

import secrets
import time
from typing import Any

from sqlalchemy.engine import make_url
from testcontainers.core.container import DockerContainer

from tests.servers import START_SECONDS, ServerError, create_database, drop_database, free_port, run_sql


class GivenServer:
    """A server that somebody else runs; it gives databases, and can't be killed."""

    can_be_killed = False

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str | None = None) -> str:
        """Return the SQLAlchemy URL of a database; without a name: of the one that was given."""
        url = make_url(self._url)
        return url.set(database=database or url.database).render_as_string(hide_password=False)

    def create_database(self) -> str:
        """Create a new empty database and return its URL."""
        return create_database(self._url)

    def drop_database(self, url: str) -> None:
        """Drop a database that create_database made."""
        drop_database(self._url, url)

    def start(self) -> None:
        """Nothing to do: it runs."""

    def stop(self) -> None:
        """Nothing to do: it is not ours to stop."""


class ContainerServer(GivenServer):
    """A server in a container, on a port that stays the same over restarts."""

    can_be_killed = True

    def __init__(self, kind: str, image: str) -> None:
        port = free_port()
        # No word of ours: connectors hide the password wherever it stands in a message.
        password = secrets.token_hex(8)
        if kind == "postgres":
            super().__init__(f"postgresql+psycopg://postgres:{password}@127.0.0.1:{port}/postgres")
            inner, variable = 5432, "POSTGRES_PASSWORD"
        else:
            super().__init__(f"mysql+pymysql://root:{password}@127.0.0.1:{port}/")
            inner, variable = 3306, "MARIADB_ROOT_PASSWORD"
        self._container: Any = DockerContainer(image)
        self._container.with_env(variable, password).with_bind_ports(inner, port)

    def start(self) -> None:
        """Start the container and wait until the server answers."""
        self._container.start()
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the container and remove it."""
        self._container.stop()

    def kill9(self) -> None:
        """End the server as a crash would; its data stays."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """Start the server again after a kill."""
        self._container.get_wrapped_container().start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        # The images start the server once for their own setup: one answer alone proves nothing.
        answers = 0
        while answers < 2:
            try:
                run_sql(self._url, "SELECT 1")
                answers += 1
            except Exception as error:
                answers = 0
                if time.monotonic() > deadline:
                    raise ServerError("the database in the container does not answer") from error
            time.sleep(0.5)
