"""Where functions stand that are held back: rows of the checkpoint table beside that of their lane.

While a function is paused alone, its changes wait in a stream of their own, ``<lane>:h<hash of its name>``.
The row of that stream says up to where of the *lane* the function's changes are in SQL: it begins where the
lane is, moves with what is applied of the stream, and goes when the function goes on with its lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.bookkeeping.checkpoint import Checkpoint, holding
from connectors.errors import Fenced
from connectors.rows import Claim, Position

if TYPE_CHECKING:
    from connectors.base import Connector


def positions(connector: Connector, lane: str) -> dict[str, Position]:
    """Return the positions of the streams that hold back what a lane has, by their names."""
    table = Checkpoint(connector.schema).table
    wanted = sa.select(table).where(holding(table.c.stream, lane))
    with connector.transaction(reads=True) as connection:
        return {row.stream: Position(row.epoch, row.ms, row.seq) for row in connection.execute(wanted)}


def begin(connector: Connector, claim: Claim, stream: str) -> None:
    """Have a row for a stream, which begins where its lane is. Raises Fenced when the lane is another's."""
    checkpoint = Checkpoint(connector.schema)
    with connector.transaction() as connection:
        lane = _fenced(connection, checkpoint, claim)
        if _row(connection, checkpoint, stream) is None:
            checkpoint.add_stream(connection, stream)
            _set(connection, checkpoint, stream, lane)


def end(connector: Connector, claim: Claim, stream: str) -> None:
    """Let the row of a stream go: all up to it is in SQL, of the lane's other functions too.

    The lane's own position moves there, so that nothing is applied again if the lane comes back after a
    crash. Raises Fenced when the lane is another's.
    """
    checkpoint = Checkpoint(connector.schema)
    table = checkpoint.table
    with connector.transaction() as connection:
        lane = _fenced(connection, checkpoint, claim)
        # Who still holds the stream can commit nothing more.
        this = table.c.stream == stream
        connection.execute(sa.update(table).where(this).values(generation=table.c.generation + 1))
        row = _row(connection, checkpoint, stream)
        if row is not None and row > lane:
            _set(connection, checkpoint, claim.stream, row)
        connection.execute(sa.delete(table).where(this))


def _fenced(connection: Connection, checkpoint: Checkpoint, claim: Claim) -> Position:
    """Lock the lane's row and return its position."""
    checkpoint.fence(connection, claim)
    row = _row(connection, checkpoint, claim.stream)
    if row is None:
        raise Fenced(f"another worker has claimed {claim.stream}")
    return row


def _row(connection: Connection, checkpoint: Checkpoint, stream: str) -> Position | None:
    table = checkpoint.table
    found = connection.execute(sa.select(table).where(table.c.stream == stream)).first()
    return None if found is None else Position(found.epoch, found.ms, found.seq)


def _set(connection: Connection, checkpoint: Checkpoint, stream: str, position: Position) -> None:
    table = checkpoint.table
    values = dict(zip(("epoch", "ms", "seq"), position))
    connection.execute(sa.update(table).where(table.c.stream == stream).values(values))
