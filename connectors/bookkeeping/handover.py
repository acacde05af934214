"""The handover table: which keys their old shard has let go of, so that the new one may go on with them.

A key that a resharding moves has changes in two lanes, of two workers. The old owner's worker writes a token
when it has applied all that it had of the key, in the transaction of that batch; the new owner's worker takes
the token in the transaction of the first batch that may write the row again. A move makes one token and takes
one.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.bookkeeping.types import ascii_text
from connectors.errors import NotHandedOver

TABLE_NAME = "gearsync_handover"


class Handover:
    """The statements on the handover table in ``schema``. A token is of ASCII, at most 64 characters."""

    def __init__(self, schema: str | None) -> None:
        self.table = sa.Table(
            TABLE_NAME,
            sa.MetaData(schema=schema),
            sa.Column("token", ascii_text(64), primary_key=True),
            sa.Column("moves", sa.Integer, nullable=False),
            sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )

    def give(self, connection: Connection, token: str) -> None:
        """Add a token."""
        now = sa.func.current_timestamp()
        this = self.table.c.token == token
        more = sa.update(self.table).where(this).values(moves=self.table.c.moves + 1, updated_at=now)
        if connection.execute(more).rowcount == 0:
            connection.execute(sa.insert(self.table).values(token=token, moves=1, updated_at=now))

    def take(self, connection: Connection, token: str) -> None:
        """Take a token away. Raises NotHandedOver when there is none."""
        this = self.table.c.token == token
        last = sa.delete(self.table).where(this, self.table.c.moves <= 1)
        if connection.execute(last).rowcount > 0:
            return
        less = sa.update(self.table).where(this).values(moves=self.table.c.moves - 1)
        if connection.execute(less).rowcount == 0:
            raise NotHandedOver(token)
