"""The handover table: which keys their old shard has let go of, so that the new one may go on with them.

A key that a resharding moves has changes in two lanes, of two workers. The old owner's worker writes a token
when it has applied all that it had of the key, in the transaction of that batch; the new owner's worker takes
the token in the transaction of the first batch that may write the row again. A move makes one token and takes
one.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.bookkeeping.types import ascii_text
from connectors.errors import NotHandedOver

TABLE_NAME = "gearsync_handover"
AT_ONCE = 300
"""The most tokens of one statement: together they are fewer parameters than every server takes."""
OUTLIVED = datetime.timedelta(days=1)
"""A token that old is left of a move whose other mark was lost, in a promotion. It says nothing of a move of
today; where it does, the new owner's worker finds out by itself that nothing waits any more."""


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

    def give(self, connection: Connection, tokens: Sequence[str]) -> None:
        """Add tokens, of which some may be the same."""
        for some in _portions(tokens):
            there = self._rows(connection, list(some), locks=True)
            outlived = [row.token for row in there if _is_outlived(row)]
            if outlived:
                connection.execute(sa.delete(self.table).where(self.table.c.token.in_(outlived)))
            more = {row.token: some.pop(row.token) for row in there if row.token not in outlived}
            self._add(connection, more)
            now = sa.func.current_timestamp()
            values = [{"token": token, "moves": count, "updated_at": now} for token, count in some.items()]
            if values:
                connection.execute(sa.insert(self.table).values(values))

    def take(self, connection: Connection, tokens: Sequence[str]) -> None:
        """Take tokens away. Raises NotHandedOver when not all are there, with nothing changed."""
        missing = self.missing(connection, tokens)
        if missing:
            raise NotHandedOver(missing)
        for some in _portions(tokens):
            there = {row.token: row.moves for row in self._rows(connection, list(some), locks=True)}
            self._add(connection, {token: -some[token] for token in there if there[token] > some[token]})
            last = [token for token in there if there[token] <= some[token]]
            connection.execute(sa.delete(self.table).where(self.table.c.token.in_(last)))

    def missing(self, connection: Connection, tokens: Sequence[str]) -> Sequence[str]:
        """Return those of the tokens that are not there: the same one as often as it lacks."""
        missing: list[str] = []
        for some in _portions(tokens):
            for row in self._rows(connection, list(some)):
                some[row.token] -= 0 if _is_outlived(row) else row.moves
            missing += some.elements()
        return missing

    def _add(self, connection: Connection, counts: Mapping[str, int]) -> None:
        for count in set(counts.values()):
            same = [token for token in counts if counts[token] == count]
            now = sa.func.current_timestamp()
            more = sa.update(self.table).values(moves=self.table.c.moves + count, updated_at=now)
            connection.execute(more.where(self.table.c.token.in_(same)))

    def _rows(self, connection: Connection, tokens: Sequence[str], locks: bool = False) -> Sequence[Any]:
        """Return which are there, with the time when they were given and that of the database by now.

        ``locks``: nobody else changes them until the transaction ends.
        """
        now = sa.func.current_timestamp().label("now")
        there = sa.select(self.table, now).where(self.table.c.token.in_(tokens))
        return connection.execute(there.with_for_update() if locks else there).all()


def _is_outlived(row: Any) -> bool:
    return bool(row.now - row.updated_at > OUTLIVED)


def _portions(tokens: Sequence[str]) -> Iterator[Counter[str]]:
    """Yield how often each is there, of some tokens at a time."""
    counts = Counter(tokens)
    different = list(counts)
    for start in range(0, len(different), AT_ONCE):
        yield Counter({token: counts[token] for token in different[start : start + AT_ONCE]})
