"""The checkpoint table: for each stream its owner and how far it is applied, moved with each batch."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.bookkeeping import lives
from connectors.bookkeeping.types import ascii_text
from connectors.errors import Fenced, Unavailable
from connectors.rows import Claim, Position

TABLE_NAME = "gearsync_checkpoint"
HELD = ":h"
"""What stands between a stream's name and the hash, in the name of one that holds something of it back."""


def holding(column: sa.ColumnElement[str], stream: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column names a stream which holds back what another one has."""
    prefix = stream + HELD
    return sa.func.substr(column, 1, len(prefix)) == prefix


class Checkpoint:
    """The statements on the checkpoint table in ``schema``."""

    def __init__(self, schema: str | None) -> None:
        self.table = sa.Table(
            TABLE_NAME,
            sa.MetaData(schema=schema),
            sa.Column("stream", ascii_text(255), primary_key=True),
            sa.Column("owner_epoch", sa.BigInteger, nullable=False),
            sa.Column("generation", sa.BigInteger, nullable=False),
            sa.Column("owner", sa.String(255), nullable=False),
            sa.Column("epoch", sa.BigInteger, nullable=False),
            sa.Column("ms", sa.BigInteger, nullable=False),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("applied", sa.BigInteger, nullable=False),
            sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
            # Another engine would have no transactions, and the checkpoint no meaning.
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )

        # Built once: this statement begins every batch.
        self._move = _move(self.table)

    def add_stream(self, connection: Connection, stream: str) -> None:
        """Add the row of a stream that nobody has claimed yet; IntegrityError when another did so."""
        zeros = ("owner_epoch", "generation", "epoch", "ms", "seq", "applied")
        values: dict[str, Any] = dict.fromkeys(zeros, 0)
        values.update(stream=stream, owner="", updated_at=sa.func.current_timestamp())
        connection.execute(sa.insert(self.table).values(values))

    def claim(self, connection: Connection, stream: str, epoch: int, owner: str) -> Claim | None:
        """Take the stream, after the transaction of its owner has ended; None when its row is missing or new.

        Where the position is one of an epoch that another life of the shard had too, it is set back to before
        that: nothing that was captured in this life is applied. How far SQL was before nobody knows any more,
        so all that waits is applied, rather than that a change is lost.

        Raises Fenced when the owner's epoch is higher.
        """
        table = self.table
        this = table.c.stream == stream
        # First the lock, and who had it last is known yet.
        more = {"generation": table.c.generation + 1}
        taken = connection.execute(sa.update(table).where(this, table.c.owner_epoch <= epoch).values(more))
        row = connection.execute(sa.select(table).where(this)).first()
        if row is not None and row.owner_epoch > epoch:
            raise Fenced(
                f"{stream} belongs to {row.owner or 'a worker'} of epoch {row.owner_epoch}, "
                f"and this worker is of the older epoch {epoch}",
                *(stream, row.owner, row.owner_epoch),
            )
        if row is None or taken.rowcount == 0:
            return None
        own = {"owner_epoch": epoch, "owner": owner[:255], "updated_at": sa.func.current_timestamp()}
        connection.execute(sa.update(table).where(this).values(own))
        position = Position(row.epoch, row.ms, row.seq)
        began = lives.began(owner, row.owner)
        if began is not None and position.epoch >= began:
            position = Position(began - 1, 0, 0)
            self._set_back(connection, stream, began)
        is_doubled = began is not None and row.owner_epoch == epoch
        return Claim(stream, epoch, owner, row.generation, position, is_doubled)

    def _set_back(self, connection: Connection, stream: str, began: int) -> None:
        """Of a stream, and of what is held back of it."""
        table = self.table
        these = sa.or_(table.c.stream == stream, holding(table.c.stream, stream))
        before = {"epoch": began - 1, "ms": 0, "seq": 0}
        connection.execute(sa.update(table).where(these, table.c.epoch >= began).values(before))

    def move(self, connection: Connection, claim: Claim, position: Position, rows: int) -> None:
        """Move the position forward and count ``rows`` more as applied.

        Raises Fenced when the claim holds no longer, Unavailable when the position is not ahead, or when
        nobody has claimed the stream any more.
        """
        values = {"of_stream": claim.stream, "of_generation": claim.generation, "rows": rows}
        values.update(to_epoch=position.epoch, to_ms=position.ms, to_seq=position.seq)
        moved = connection.execute(self._move, values)
        if moved.rowcount == 0:
            self._explain(connection, claim, position)

    def count(self, connection: Connection, claim: Claim, rows: int) -> None:
        """Count ``rows`` more as applied, in the transaction that has moved the position."""
        table = self.table
        connection.execute(sa.update(table).where(self._held(claim)).values(applied=table.c.applied + rows))

    def fence(self, connection: Connection, claim: Claim) -> None:
        """Lock the stream's row until the transaction ends. Raises Fenced when the claim holds no longer,
        Unavailable when nobody has claimed the stream any more.
        """
        touch = sa.update(self.table).where(self._held(claim)).values(updated_at=sa.func.current_timestamp())
        if connection.execute(touch).rowcount == 0:
            raise self._lost(connection, claim)

    def _held(self, claim: Claim) -> Any:
        return sa.and_(self.table.c.stream == claim.stream, self.table.c.generation == claim.generation)

    def _explain(self, connection: Connection, claim: Claim, position: Position) -> None:
        row = connection.execute(sa.select(self.table).where(self._held(claim))).first()
        if row is None:
            raise self._lost(connection, claim)
        raise Unavailable(
            f"{claim.stream} is applied up to {row.epoch}:{row.ms}-{row.seq} already, which is not before "
            f"{position.epoch}:{position.ms}-{position.seq}; claim it again to read from there"
        )

    def _lost(self, connection: Connection, claim: Claim) -> Fenced | Unavailable:
        """Return why a claim holds no longer."""
        row = sa.select(self.table.c.owner).where(self.table.c.stream == claim.stream)
        if connection.execute(row).first() is None:
            return Unavailable(
                f"the row of {claim.stream} is gone from {TABLE_NAME}; it is made anew, for all that waits"
            )
        return Fenced(f"another worker has claimed {claim.stream}")


def _move(table: sa.Table) -> sa.Update:
    """Return the statement that moves a position forward, if the claim holds and the position is ahead."""
    epoch, ms, seq = (sa.bindparam(f"to_{name}", type_=sa.BigInteger) for name in ("epoch", "ms", "seq"))
    behind = sa.or_(
        table.c.epoch < epoch,
        sa.and_(
            table.c.epoch == epoch,
            sa.or_(table.c.ms < ms, sa.and_(table.c.ms == ms, table.c.seq < seq)),
        ),
    )
    return (
        sa.update(table)
        .where(table.c.stream == sa.bindparam("of_stream"))
        .where(table.c.generation == sa.bindparam("of_generation"), behind)
        .values(
            epoch=epoch,
            ms=ms,
            seq=seq,
            applied=table.c.applied + sa.bindparam("rows", type_=sa.BigInteger),
            updated_at=sa.func.current_timestamp(),
        )
    )
