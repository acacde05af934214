"""The table of letters: which changes were refused for good and why, for as long as Redis may forget it.

A dead letter is in Redis before the transaction commits that leaves its change out. A crash of Redis, or the
promotion of a replica that lags, can lose it all the same. Then the change is still in its lane, because
that is trimmed later; so the reason is all that is kept here, and nothing of the change itself.

Beside those rows stand others, of epoch OWED: what a key still owes since a write of it was refused.
"""

from __future__ import annotations

import struct
from typing import Any, Mapping, NamedTuple, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection

from connectors.bookkeeping.types import ascii_text
from connectors.rows import Position

TABLE_NAME = "gearsync_letter"
AT_ONCE = 200
"""The most rows of one statement: together they are smaller than what every server takes."""

OWED = -1
"""In the place of the epoch: the row is of a debt, and its other two numbers are a digest."""
FOR_EVER = 2**63 - 1
"""When a debt is too old."""

_RECORD = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


class Remembered(NamedTuple):
    """One refused change: where it stands in its lane, the id of its letter in Redis, when it was refused
    (ms), and why, as the worker writes it. ``stream``: whose it is, when it was read.
    """

    position: Position
    entry: str
    at_ms: int
    record: bytes
    stream: str = ""


class Debts(NamedTuple):
    """What becomes of a lane's debts: the records of those that are ``owed`` from now on, by digests of 16
    bytes, and the digests of others that are ``settled``.
    """

    lane: str
    owed: Mapping[bytes, bytes]
    settled: Sequence[bytes]


NO_DEBTS = Debts("", {}, ())


class Letters:
    """The statements on the table of letters in ``schema``."""

    def __init__(self, schema: str | None) -> None:
        self.table = sa.Table(
            TABLE_NAME,
            sa.MetaData(schema=schema),
            sa.Column("stream", ascii_text(255), primary_key=True),
            sa.Column("epoch", sa.BigInteger, primary_key=True),
            sa.Column("ms", sa.BigInteger, primary_key=True),
            sa.Column("seq", sa.BigInteger, primary_key=True),
            sa.Column("entry", sa.String(64), nullable=False),
            sa.Column("at_ms", sa.BigInteger, nullable=False),
            sa.Column("record", _RECORD, nullable=False),
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )

    def keep(self, connection: Connection, stream: str, rows: Sequence[Remembered]) -> None:
        """Add rows; those of the same changes give way: a Redis restored from a backup has them again."""
        positions = [each.position for each in rows]
        here = self.table.c.stream == stream
        connection.execute(sa.delete(self.table).where(here, self.within(min(positions), max(positions))))
        for start in range(0, len(rows), AT_ONCE):
            connection.execute(
                sa.insert(self.table), [_values(stream, each) for each in rows[start : start + AT_ONCE]]
            )

    def change(self, connection: Connection, debts: Debts) -> None:
        """Write and delete the rows of debts."""
        gone = [_debt(debts.lane, digest) for digest in (*debts.owed, *debts.settled)]
        if gone:
            this = sa.and_(*(self.table.c[name] == sa.bindparam(f"of_{name}") for name in gone[0]))
            found = [{f"of_{name}": value for name, value in each.items()} for each in gone]
            for start in range(0, len(found), AT_ONCE):
                connection.execute(sa.delete(self.table).where(this), found[start : start + AT_ONCE])
        new = [
            {**_debt(debts.lane, digest), "entry": "", "at_ms": FOR_EVER, "record": record}
            for digest, record in debts.owed.items()
        ]
        for start in range(0, len(new), AT_ONCE):
            connection.execute(sa.insert(self.table), new[start : start + AT_ONCE])

    def within(self, first: Position, last: Position) -> Any:
        """Return the condition for all from one position to another."""
        return sa.and_(self._compare(first, after=True), self._compare(last, after=False))

    def _compare(self, position: Position, after: bool) -> Any:
        """Return the condition for all from a position on, or up to it."""
        epoch, ms, seq = self.table.c.epoch, self.table.c.ms, self.table.c.seq
        if after:
            in_ms = sa.or_(ms > position.ms, sa.and_(ms == position.ms, seq >= position.seq))
            return sa.or_(epoch > position.epoch, sa.and_(epoch == position.epoch, in_ms))
        in_ms = sa.or_(ms < position.ms, sa.and_(ms == position.ms, seq <= position.seq))
        return sa.or_(epoch < position.epoch, sa.and_(epoch == position.epoch, in_ms))


def _values(stream: str, row: Remembered) -> dict[str, Any]:
    values: dict[str, Any] = {"stream": stream, "entry": row.entry, "at_ms": row.at_ms, "record": row.record}
    values.update(row.position._asdict())
    return values


def _debt(lane: str, digest: bytes) -> dict[str, Any]:
    """Return the primary key of a debt."""
    ms, seq = struct.unpack(">qq", digest)
    return {"stream": lane, "epoch": OWED, "ms": ms, "seq": seq}
