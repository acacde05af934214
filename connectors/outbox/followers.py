"""Who reads the outbox, and how far: entries that all have passed are pruned."""

from __future__ import annotations

import time
from typing import NamedTuple

import sqlalchemy as sa

from connectors.base import Connector
from connectors.triggers.base import FOLLOWER

#: A follower that was not seen for so long no longer holds entries back; on its return it has lost its place.
AWAY_SECONDS = 7 * 86_400


class Followed(NamedTuple):
    """What is known of a follower. ``horizon`` None: it was away for too long: its entries are gone."""

    position: str
    horizon: int | None
    functions: str


class Followers:
    """The statements on the table of followers."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._table = sa.table(
            FOLLOWER,
            *(sa.column(name) for name in ("name", "position", "horizon", "functions", "seen_at")),
            schema=connector.schema,
        )

    def find(self, name: str) -> Followed | None:
        """Return what is known of a follower; None: it is new."""
        table = self._table
        wanted = sa.select(table.c.position, table.c.horizon, table.c.functions).where(table.c.name == name)
        with self._connector.transaction(reads=True) as connection:
            row = connection.execute(wanted).first()
        return None if row is None else Followed(row[0], row[1], row[2])

    def add(self, name: str, followed: Followed) -> None:
        """Add a follower, or put it where it says."""
        values = {**followed._asdict(), "name": name, "seen_at": int(time.time())}
        with self._connector.transaction() as connection:
            connection.execute(sa.delete(self._table).where(self._table.c.name == name))
            connection.execute(sa.insert(self._table).values(values))

    def touch(self, name: str) -> bool:
        """Note that a follower lives; False: it was let go of."""
        table = self._table
        this = sa.and_(table.c.name == name, table.c.horizon.is_not(None))
        with self._connector.transaction() as connection:
            connection.execute(sa.update(table).where(this).values(seen_at=int(time.time())))
            # MySQL counts rows that stay as they are as none.
            return connection.execute(sa.select(table.c.name).where(this)).first() is not None

    def release(self, name: str, position: str, horizon: int) -> None:
        """Note that a follower needs nothing before ``position`` and ``horizon``; it never goes back."""
        table = self._table
        ahead = sa.and_(table.c.name == name, table.c.horizon < horizon)
        with self._connector.transaction() as connection:
            connection.execute(sa.update(table).where(ahead).values(position=position, horizon=horizon))

    def cover(self, name: str, functions: str) -> None:
        """Remember which functions a follower follows."""
        update = sa.update(self._table).where(self._table.c.name == name).values(functions=functions)
        with self._connector.transaction() as connection:
            connection.execute(update)

    def forget(self, name: str) -> None:
        """Take a follower away for good."""
        with self._connector.transaction() as connection:
            connection.execute(sa.delete(self._table).where(self._table.c.name == name))

    def drop_unseen(self) -> list[str]:
        """Let go of followers that were away for too long; return their names."""
        table = self._table
        old = sa.and_(table.c.horizon.is_not(None), table.c.seen_at < int(time.time()) - AWAY_SECONDS)
        with self._connector.transaction() as connection:
            names = [str(row[0]) for row in connection.execute(sa.select(table.c.name).where(old))]
            if names:
                connection.execute(sa.update(table).where(old, table.c.name.in_(names)).values(horizon=None))
        return names

    def lowest(self) -> int | None:
        """Return the lowest horizon of all followers; None: there is none."""
        with self._connector.transaction(reads=True) as connection:
            found = connection.execute(sa.select(sa.func.min(self._table.c.horizon))).scalar_one()
        return None if found is None else int(found)
