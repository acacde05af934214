"""Where a shard's write-through stands: what is computed or done on another state would be wrong.

A server that was a replica in between, was flushed, or has forgotten what it was told, has another state than
the one that SQL was asked about: then SQL is asked again, before anything else.
"""

from __future__ import annotations

from typing import NamedTuple

from gears.redisgears.api import execute
from gears.redisgears.place import is_primary
from gears.redisgears.shard import Shard


class Place(NamedTuple):
    """``stream`` is the name of this shard's writes in SQL, ``shard`` who it is (Shard.who); ``applied`` the
    position (epoch, ms, seq) up to which they are in Redis, None: there were none yet.
    """

    stream: str
    epoch: int
    shard: str
    applied: tuple[int, int, int] | None

    @property
    def term(self) -> tuple[str, int]:
        """What stays the same as long as nobody else can have written for this shard."""
        return self.stream, self.epoch


class Changed(Exception):
    """This is not the place that SQL was asked about."""


class Standing:
    """Redis is locked wherever this is used."""

    def __init__(self, prefix: str, shard: Shard) -> None:
        self._prefix = prefix
        self._shard = shard
        self._known: Place | None = None
        self._is_ready = False

    def term(self) -> tuple[str, int]:
        """Return the present term."""
        self._shard.refresh()
        return self._shard.own(self._prefix), self._shard.epoch

    def place(self) -> Place | None:
        """Return the present place; None: this is no primary."""
        if not is_primary():
            return None
        stream, epoch = self.term()
        place = Place(stream, epoch, self._shard.who, None)
        applied = execute("GET", stream)
        if applied is not None:
            of_epoch, ms, seq = map(int, applied.split())
            return place._replace(applied=(of_epoch, ms, seq))
        # Somebody has deleted it, or it was evicted: in one term nobody but this process can write it.
        known = self._known
        return known if known is not None and known._replace(applied=None) == place else place

    def enter(self, place: Place) -> None:
        """SQL is about to be asked what is behind this place."""
        if place != self._known:
            self._known, self._is_ready = place, False

    def ready(self) -> None:
        """Redis has all that SQL has committed."""
        self._is_ready = True

    def holds(self) -> bool:
        """Whether this is still the place that was entered."""
        return self._known is not None and self.place() == self._known

    def is_ready(self) -> bool:
        """Whether Redis has all that SQL has committed."""
        return self._is_ready and self.holds()

    def require(self) -> Place:
        """Return the place that was entered. Raises Changed where this is another one."""
        if self._known is None or not self.holds():
            raise Changed
        return self._known

    def note(self, position: tuple[int, int, int]) -> None:
        """What SQL has committed up to here is in Redis, or is with this very transaction."""
        place = self._known
        assert place is not None  # noqa: S101 (for mypy)
        execute("SET", place.stream, " ".join(map(str, position)))
        self._known = place._replace(applied=position)

    def forget(self) -> None:
        """The deployment is gone."""
        execute("DEL", self.term()[0])
