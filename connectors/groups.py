"""Groups: the writes of many waiting clients in one transaction."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.atonce import AtOnce
from connectors.bookkeeping.intents import Committed, Intents
from connectors.errors import ConnectorError, Refused, SchemaMismatch
from connectors.rows import Claim, Position, RowOp
from connectors.writing.blocks import tables_of
from connectors.writing.units import Unit, rows_of, write_apart

if TYPE_CHECKING:
    from connectors.bookkeeping.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Groups(AtOnce):
    """The part of a connector that commits groups of units."""

    _intents: Intents
    _checkpoint: Checkpoint

    if TYPE_CHECKING:

        def forget_tables(self) -> None: ...
        def _ensure(self, table: sa.Table) -> None: ...
        def _transaction(self) -> contextlib.AbstractContextManager[Connection]: ...
        def _write(self, connection: Connection, rows: Sequence[RowOp]) -> None: ...
        def _try(self, connection: Connection, rows: Sequence[RowOp]) -> None: ...

    def ensure_intents(self) -> None:
        """Create the table of intents unless it is there."""
        self._ensure(self._intents.table)

    def most_record(self) -> int:
        """Return how many bytes ``commit_intents`` takes as a record; 0: as many as there may be."""
        return 0

    def commit_intents(
        self,
        claim: Claim,
        position: Position,
        previous: Position | None,
        units: Sequence[Unit],
        record: Callable[[dict[int, ConnectorError]], bytes],
    ) -> dict[int, ConnectorError]:
        """Commit units, each whole or not at all, with the checkpoint and a record, in one transaction.

        ``previous`` is the position of the last such transaction. ``record`` makes the text that
        ``committed`` returns later, of the units that were refused, by their place. Returns those.

        Raises Fenced or Unavailable (with ``in_commit`` only ``claim`` and ``committed`` tell what is in).
        """
        rows = rows_of(units)
        for name in tables_of(rows):
            self.table(name)
        try:
            kept = self._intents.values(claim, position, previous, record({}))
            self._commit_group(claim, position, rows, kept)
            return {}
        except (Refused, SchemaMismatch) as error:
            log.debug("a group of %d writes is taken apart: %s", len(units), error)
            if isinstance(error, SchemaMismatch):
                self.forget_tables()
        with self._transaction() as connection:
            self._checkpoint.move(connection, claim, position, 0)
            refused = write_apart(units, lambda part: self._try(connection, part))
            written = sum(len(unit) for place, unit in enumerate(units) if place not in refused)
            self._checkpoint.count(connection, claim, written)
            kept = self._intents.values(claim, position, previous, record(refused))
            connection.execute(self._intents.insert, kept)
        return refused

    def _commit_group(
        self, claim: Claim, position: Position, rows: Sequence[RowOp], kept: dict[str, Any]
    ) -> None:
        """Commit rows, the position, and ``kept`` as a row of the table of intents."""
        if self._commit_at_once(claim, position, rows, kept):
            return
        with self._transaction() as connection:
            self._checkpoint.move(connection, claim, position, len(rows))
            self._write(connection, rows)
            connection.execute(self._intents.insert, kept)

    def committed(self, stream: str, after: Position) -> list[Committed]:
        """Return the transactions of intents of a stream after a position, in order."""
        with self._transaction() as connection:
            return self._intents.after(connection, stream, after)

    def last_intent(self, stream: str) -> Position | None:
        """Return the position of the last transaction of intents; None: there was none."""
        with self._transaction() as connection:
            return self._intents.last(connection, stream)

    def intent_streams(self, ends: tuple[str, str], epoch: int) -> list[str]:
        """Return the streams of names with these ends that have transactions of a later epoch."""
        with self._transaction() as connection:
            return self._intents.streams_since(connection, ends, epoch)

    def forget_intents(self, stream: str) -> None:
        """Forget all transactions of intents of a stream."""
        with self._transaction() as connection:
            self._intents.forget(connection, stream)

    def prune_intents(self, stream: str, before: Position) -> None:
        """Forget the transactions of intents before a position, but for those of its own millisecond."""
        with self._transaction() as connection:
            self._intents.prune(connection, stream, before)
