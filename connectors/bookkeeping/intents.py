"""The table of intents: which writes of waiting clients were committed, and what they do in Redis.

It is written in the transaction of the writes themselves, so that after a crash of Redis, which may have
forgotten what it had applied, nothing but SQL has to be asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection

from connectors.bookkeeping.types import ascii_text
from connectors.rows import Claim, Position

TABLE_NAME = "gearsync_intent"

_RECORD = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


class Committed(NamedTuple):
    """One transaction of intents: its position, that of the one before (None: no other), its record."""

    position: Position
    previous: Position | None
    record: bytes


class Intents:
    """The statements on the table of intents in ``schema``."""

    def __init__(self, schema: str | None) -> None:
        self.table = sa.Table(
            TABLE_NAME,
            sa.MetaData(schema=schema),
            sa.Column("stream", ascii_text(255), primary_key=True),
            sa.Column("epoch", sa.BigInteger, primary_key=True),
            sa.Column("ms", sa.BigInteger, primary_key=True),
            sa.Column("seq", sa.BigInteger, primary_key=True),
            sa.Column("previous", sa.String(80), nullable=False),
            sa.Column("record", _RECORD, nullable=False),
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )
        self.insert = sa.insert(self.table)

    def values(
        self, claim: Claim, position: Position, previous: Position | None, record: bytes
    ) -> dict[str, Any]:
        """Return what ``insert`` takes for one transaction."""
        values: dict[str, Any] = {"stream": claim.stream, "record": record, "previous": _text(previous)}
        values.update(position._asdict())
        return values

    def after(self, connection: Connection, stream: str, position: Position) -> list[Committed]:
        """Return the transactions of a stream after a position, in their order."""
        table = self.table.c
        ahead = sa.or_(
            table.epoch > position.epoch,
            sa.and_(
                table.epoch == position.epoch,
                sa.or_(table.ms > position.ms, sa.and_(table.ms == position.ms, table.seq > position.seq)),
            ),
        )
        query = (
            sa.select(self.table)
            .where(table.stream == stream, ahead)
            .order_by(table.epoch, table.ms, table.seq)
        )
        found = []
        for row in connection.execute(query):
            at = Position(row.epoch, row.ms, row.seq)
            found.append(Committed(at, _position(row.previous), bytes(row.record)))
        return found

    def last(self, connection: Connection, stream: str) -> Position | None:
        """Return the position of the latest transaction of a stream; None: there was none."""
        table = self.table.c
        order = (table.epoch.desc(), table.ms.desc(), table.seq.desc())
        query = sa.select(self.table).where(table.stream == stream).order_by(*order).limit(1)
        row = connection.execute(query).first()
        return None if row is None else Position(row.epoch, row.ms, row.seq)

    def streams_since(self, connection: Connection, ends: tuple[str, str], epoch: int) -> list[str]:
        """Return the streams between two texts that have transactions of a later epoch."""
        table = self.table.c
        first, last = (end.replace("!", "!!").replace("%", "!%").replace("_", "!_") for end in ends)
        alike = table.stream.like(f"{first}%{last}", escape="!")
        query = sa.select(table.stream).where(alike, table.epoch > epoch).distinct()
        return sorted(str(row.stream) for row in connection.execute(query))

    def forget(self, connection: Connection, stream: str) -> None:
        """Forget all transactions of a stream."""
        connection.execute(sa.delete(self.table).where(self.table.c.stream == stream))

    def prune(self, connection: Connection, stream: str, before: Position) -> None:
        """Forget the transactions of a stream before a position, but for those of its own millisecond."""
        table = self.table.c
        old = sa.or_(table.epoch < before.epoch, sa.and_(table.epoch == before.epoch, table.ms < before.ms))
        connection.execute(sa.delete(self.table).where(table.stream == stream, old))


def _text(position: Position | None) -> str:
    return "" if position is None else f"{position.epoch} {position.ms} {position.seq}"


def _position(text: str) -> Position | None:
    return Position(*map(int, text.split())) if text else None
