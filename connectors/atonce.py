"""Rows, the checkpoint and what is kept with them as one statement, which commits by itself: where a database
can, one round trip stands in for four.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from connectors.errors import ConnectorError, Unavailable
from connectors.pool import IDLE_SECONDS, is_alive
from connectors.rows import Claim, Group, Position, RowOp
from connectors.writing.blocks import grouped
from connectors.writing.order import in_order

if TYPE_CHECKING:
    from connectors.tables import Table

_KINDS = ("upsert", "delete")


class AtOnce:
    """The part of a connector that commits by single statements."""

    _engine: Engine
    _lasting: Connection | None = None
    _lasting_used = 0.0

    if TYPE_CHECKING:

        def table(self, name: str) -> Table: ...
        def _explain(self, error: sa.exc.DBAPIError) -> ConnectorError: ...
        def _translated(self) -> contextlib.AbstractContextManager[None]: ...

    def _commit_at_once(
        self, claim: Claim, position: Position, rows: Sequence[RowOp], kept: Mapping[str, Any] | None
    ) -> bool:
        """Commit rows, the position, and ``kept`` (unless None) as a row of the table of intents.

        False: nothing was done, for the dialect has no such way, the rows are more than upserts and deletes
        of each row once, or the checkpoint was not moved (a transaction then says why). Raises Refused,
        SchemaMismatch or Unavailable; with ``in_commit`` it may be committed.
        """
        waves = grouped(rows)
        found = waves[0] if waves else []
        if len(waves) > 1 or not all(group.kind in _KINDS and not group.mark for group in found):
            return False
        return self._send_at_once(claim, position, in_order(found, self.table), kept)

    def _send_at_once(
        self, claim: Claim, position: Position, found: Sequence[Group], kept: Mapping[str, Any] | None
    ) -> bool:
        """Do so in the dialect's way; ``found`` touches no row twice."""
        return False

    @contextlib.contextmanager
    def _single(self, is_lasting: bool) -> Iterator[Any]:
        """The driver's connection, whose statements commit by themselves; what breaks it may be committed.

        ``is_lasting``: one that is kept for this alone, which saves the time of a client that waits.
        """
        connection = self._open(is_lasting)
        driver = connection.connection.driver_connection
        try:
            yield driver
        except self._engine.dialect.loaded_dbapi.Error as error:
            broken = self._engine.dialect.is_disconnect(error, driver, None)
            explained = self._explain(_as_sqlalchemy(error, self._engine, broken))
            if isinstance(explained, Unavailable):
                explained.in_commit = broken
                connection.invalidate()
                self._close_lasting()
            raise explained from error
        finally:
            if is_lasting:
                self._lasting_used = time.monotonic()
            else:
                connection.close()

    def _open(self, is_lasting: bool) -> Connection:
        if is_lasting and self._lasting is not None:
            if self._is_alive(self._lasting):
                return self._lasting
            self._close_lasting()
        with self._translated():
            opened = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if is_lasting:
            self._lasting = opened
        return opened

    def _is_alive(self, lasting: Connection) -> bool:
        """Whether it may be used; one that was idle for a while is asked, as those of the pool are."""
        if time.monotonic() - self._lasting_used < IDLE_SECONDS:
            return True
        return is_alive(self._engine, lasting.connection.driver_connection)

    def _close_lasting(self) -> None:
        if self._lasting is not None:
            self._lasting.invalidate()
            self._lasting.close()
            self._lasting = None


def _as_sqlalchemy(error: Exception, engine: Engine, broken: bool) -> sa.exc.DBAPIError:
    """Return an error of the driver as it would come out of SQLAlchemy."""
    base = engine.dialect.loaded_dbapi.Error
    made = sa.exc.DBAPIError.instance(
        "", None, error, base, connection_invalidated=broken, dialect=engine.dialect
    )
    assert isinstance(made, sa.exc.DBAPIError)  # noqa: S101 (for mypy)
    return made
