"""What a database remembers of dead letters, asked for and forgotten (``letters.py`` writes it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

import sqlalchemy as sa

from connectors.bookkeeping.checkpoint import Checkpoint, holding
from connectors.bookkeeping.letters import OWED, TABLE_NAME, Letters, Remembered
from connectors.rows import Claim, Position

if TYPE_CHECKING:
    from connectors.base import Connector


def newest(connector: Connector, lane: str) -> Position | None:
    """Return the position of the last change of a lane that is remembered; None: there is none."""
    letters = Letters(connector.schema)
    table = letters.table.c
    with connector.transaction(reads=True) as connection:
        if not connector.has_table(connection, TABLE_NAME):
            return None
        order = (table.epoch.desc(), table.ms.desc(), table.seq.desc())
        found = sa.select(letters.table).where(_of_lane(letters, lane), table.epoch > OWED)
        row = connection.execute(found.order_by(*order).limit(1)).first()
        return None if row is None else Position(row.epoch, row.ms, row.seq)


def between(connector: Connector, lane: str, first: Position, last: Position) -> list[Remembered]:
    """Return what is remembered of the changes of a lane from one position to another, stream by stream."""
    letters = Letters(connector.schema)
    table = letters.table.c
    wanted = sa.select(letters.table).where(_of_lane(letters, lane), letters.within(first, last))
    with connector.transaction(reads=True) as connection:
        return [
            Remembered(
                Position(row.epoch, row.ms, row.seq), row.entry, row.at_ms, bytes(row.record), row.stream
            )
            for row in connection.execute(wanted.order_by(table.stream, table.epoch, table.ms, table.seq))
        ]


def move(connector: Connector, claim: Claim, rows: Sequence[Remembered]) -> None:
    """Note under which ids letters stand in Redis now. Raises Fenced when the lane is another's."""
    table = Letters(connector.schema).table
    with connector.transaction() as connection:
        Checkpoint(connector.schema).fence(connection, claim)
        for row in rows:
            at = dict(row.position._asdict(), stream=row.stream)
            this = sa.and_(*(table.c[name] == value for name, value in at.items()))
            connection.execute(sa.update(table).where(this).values(entry=row.entry))


def prune(connector: Connector, stream: str, before_ms: int, gone_ms: int) -> None:
    """Forget what was refused before a time, of a stream; before ``gone_ms``, of those that nobody prunes.

    The streams of others are left alone, so that no transaction of theirs is waited for.
    """
    table = Letters(connector.schema).table
    with connector.transaction() as connection:
        old = sa.select(table.c.stream).where(table.c.at_ms < gone_ms).distinct()
        gone = [(name, gone_ms) for name in connection.execute(old).scalars()]
        for name, ms in [*gone, (stream, before_ms)]:
            connection.execute(sa.delete(table).where(table.c.stream == name, table.c.at_ms < ms))


def owed(connector: Connector, lane: str) -> list[bytes]:
    """Return the records of a lane's debts."""
    table = Letters(connector.schema).table
    with connector.transaction(reads=True) as connection:
        if not connector.has_table(connection, TABLE_NAME):
            return []
        wanted = sa.select(table.c.record).where(table.c.stream == lane, table.c.epoch == OWED)
        return [bytes(record) for record in connection.execute(wanted).scalars()]


def forget(connector: Connector, lane: str) -> None:
    """Forget all of a lane, and of what was held back of it."""
    letters = Letters(connector.schema)
    with connector.transaction() as connection:
        if connector.has_table(connection, TABLE_NAME):
            connection.execute(sa.delete(letters.table).where(_of_lane(letters, lane)))


def _of_lane(letters: Letters, lane: str) -> Any:
    """Return the condition for what a lane has, and what was held back of it."""
    stream = letters.table.c.stream
    return sa.or_(stream == lane, holding(stream, lane))
