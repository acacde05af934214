"""What reading an outbox is, whatever the database."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from sqlalchemy.engine import Connection

from connectors.base import Connector
from connectors.errors import Unavailable
from connectors.triggers.base import OUTBOX

#: Between the parts of a position: how far all was read, and the newest entry of that.
_BESIDE = " ="


class Entry(NamedTuple):
    """What somebody changed: a row, by the texts (or bytes) of its primary key in the order of the table's
    key; ``key`` None: all rows of the table, for it was emptied.
    """

    table: str
    key: tuple[bytes, ...] | None


class BegunAnew(Unavailable):
    """The outbox has no entry as new as what was read of it: somebody has emptied it, or made it anew."""


class Waker:
    """Tells when it may be time to look again. Where the database does not call, nothing does."""

    def wait(self, seconds: float) -> bool:
        """Wait for a call of the database, at most so long; whether one came."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError


class Outbox:
    """One reader's way through the outbox. ``begin`` first, then ``read`` again and again."""

    #: The newest entry that was read, by its number and by what another one of that number would not have: a
    #: database that has lost its last commits gives their numbers again.
    _newest: tuple[str, str] | None = None

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._place = connector.quoted_table(OUTBOX)

    def begin(self, position: str, pruned: int = 0) -> bool:
        """Read on from a position; False: it is none of this outbox, which is an older or another one.

        ``pruned``: the number below which entries may be gone.
        """
        where, _, newest = position.partition(_BESIDE)
        number, _, tie = newest.partition(_BESIDE)
        self._newest = (number, tie) if newest else None
        if not self._go_to(where):
            return False
        if self._newest is None or int(number) < pruned:
            return True
        with self._connector.transaction(reads=True) as connection:
            return bool(self._rows(connection, self._same_entry, (number, tie)))

    @property
    def position(self) -> str:
        """The position behind all that was read: what is committed later comes after it."""
        return _BESIDE.join((self._where, *(self._newest or ())))

    def horizon(self, position: str) -> int:
        """Return the number below which a reader from ``position`` on needs no entry."""
        return self._horizon(position.partition(_BESIDE)[0])

    # -- What a dialect says -------------------------------------------------------------------------------

    def now(self) -> str:
        """Return a position such that whatever is committed from now on comes after it."""
        raise NotImplementedError

    def _go_to(self, where: str) -> bool:
        """Read on from there; False: the outbox has not come so far."""
        raise NotImplementedError

    @property
    def _where(self) -> str:
        """How far all was read."""
        raise NotImplementedError

    @property
    def _same_entry(self) -> str:
        """A statement that finds an entry, by its number and what no other one of that number has."""
        raise NotImplementedError

    def read(self, most: int) -> list[Entry]:
        """Return what follows, at most about ``most`` entries; fewer: it was all there is by now.

        Raises BegunAnew where that can be told.
        """
        raise NotImplementedError

    def _horizon(self, where: str) -> int:
        """Return the number below which a reader from there on needs no entry."""
        raise NotImplementedError

    def prune(self, horizon: int, most: int) -> int:
        """Delete entries below the horizon, at most ``most``; return how many."""
        raise NotImplementedError

    def waker(self) -> Waker | None:
        """Return what waits for the database's call; None: it does not call."""
        return None

    # -- The rest ------------------------------------------------------------------------------------------

    def _highest(self, connection: Connection) -> int:
        """Return the id of the newest entry, which ``prune`` leaves there."""
        return int(self._rows(connection, f"SELECT max(id) FROM {self._place}")[0][0] or 0)

    def _require_as_new(self, connection: Connection, last: int) -> None:
        if self._highest(connection) < last:
            raise BegunAnew("the outbox was emptied, or made anew, and its ids are those of before")

    def _rows(self, connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return list(connection.exec_driver_sql(statement, tuple(parameters)))


def entry(table: str, key: str | None) -> Entry:
    """Make an entry of a table's name and a key as triggers write it."""
    return Entry(table, None if key is None else tuple(bytes.fromhex(part) for part in key.split(",")))
