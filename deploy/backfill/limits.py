"""How fast a backfill may go: keys a second, and changes that wait for SQL."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.barrier import paused_of
from deploy.output import CommandError
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard
from deploy.status import attention

LOOK_SECONDS = 0.1
"""Between two looks at a backlog that is too long."""
OWN_SHARE = 2
"""A backfill never fills more than one part in so many of what the deployment itself allows to wait."""
CAREFUL_SHARE = 0.125
"""Of a bound in bytes; while less of it is taken, more keys go at once."""


CAPTURING = ("active", "paused")
"""States in which what is captured is brought to SQL, some time."""


class Stopped(Exception):
    """The backfill is to end: another shard has failed, or somebody wants it."""


class Stop:
    """Tells all threads of a run to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Tell all threads."""
        self._event.set()

    def clear(self) -> None:
        """Let the next ones begin."""
        self._event.clear()

    def check(self) -> None:
        """Raise Stopped when it is to end."""
        self.sleep(0)

    def sleep(self, seconds: float) -> None:
        """Sleep; raises Stopped as soon as it is to end."""
        if self._event.wait(max(0.0, seconds)):
            raise Stopped


class Pace:
    """Keeps all shards together to ``rate`` keys a second; 0: as fast as it goes."""

    def __init__(self, rate: int, stop: Stop) -> None:
        self._rate = rate
        self._stop = stop
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def most(self, keys: int) -> int:
        """Return how many of so many keys may go at once: a tenth of a second's."""
        return min(keys, max(1, self._rate // 10)) if self._rate else keys

    def page(self, places: int) -> int:
        """Return how many of so many places SCAN may look at in one step, so that progress is seen."""
        return min(places, max(10, self._rate // 10)) if self._rate else places

    def keep(self, keys: int) -> None:
        """Sleep until so many more keys are no more than the rate allows. Raises Stopped."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._next = max(now, self._next) + keys / self._rate
            until = self._next
        self._stop.sleep(until - time.monotonic())


class Backlog:
    """Changes that wait on one shard, of which a backfill of ``deployment`` lets no more than ``most`` be.

    ``makes``: how many changes a key makes at most, by deployment: whoever covers a key gets it, and has a
    bound of its own. ``waits``: whether it waits just now; ``problems``: what is wrong then, if anything is.
    """

    def __init__(
        self, shard: Shard, deployment: str, most: int, stop: Stop, makes: Mapping[str, int]
    ) -> None:
        self._shard = shard
        self._deployment = deployment
        self._most = most
        self._stop = stop
        self._makes = {deployment: 1, **makes}
        self._step = 1
        self.waits = False
        self.problems: list[str] = []

    def room(self) -> int:
        """Return how many keys may be captured, at least 1; waits until there is room.

        Raises Stopped, ShardError, and CommandError when the deployment has gone.
        """
        while True:
            status = self._status()
            self._require_deployed(status)
            rooms = {each["name"]: self._room_of(each) for each in status["deployments"] if self._is_of(each)}
            room = min(rooms.values())
            self.waits = room <= 0
            full = [name for name, left in rooms.items() if left <= 0]
            self.problems = list(self._problems(status, full))
            if room > 0:
                return self._careful(room, status)
            self._stop.sleep(LOOK_SECONDS)

    def _is_of(self, deployment: dict[str, Any]) -> bool:
        return deployment["name"] in self._makes and deployment["state"] in CAPTURING

    def _room_of(self, deployment: dict[str, Any]) -> int:
        name = deployment["name"]
        most = self._most if name == self._deployment else sys.maxsize
        room = room_of(deployment["backlog"], most)
        return max(1, room // self._makes[name]) if room > 0 else room

    def _careful(self, room: int, status: dict[str, Any]) -> int:
        """Return how many keys may go at once where bytes are bounded, since nobody knows how large they are:
        twice as many as before, as long as little of the bound is taken.
        """
        shares = [_share(each["backlog"]) for each in status["deployments"] if self._is_of(each)]
        if max(shares) < 0:
            return room
        step, self._step = self._step, max(1, self._step // 2)
        if max(shares) < CAREFUL_SHARE:
            self._step = min(2 * step, room)
        return min(room, step)

    def _status(self) -> dict[str, Any]:
        with errors_of(self._shard.address):
            return {"address": self._shard.address, **self._shard.host.status()}

    def _problems(self, status: dict[str, Any], full: Sequence[str]) -> Iterator[str]:
        """Yield what keeps changes from SQL; what was refused or is not covered does not."""
        own = {**status, "deployments": [each for each in status["deployments"] if each["name"] in full]}
        yield from paused_of([own])
        for each in attention([own]):
            beside = "dead letter" in each or "no template" in each
            if not beside:
                yield each

    def _require_deployed(self, status: dict[str, Any]) -> None:
        if not any(each["name"] == self._deployment and self._is_of(each) for each in status["deployments"]):
            raise CommandError(
                f"{self._shard.address} has no active deployment {self._deployment} any more.",
                "deploy it again: gearsync deploy FILE.",
            )


def _share(backlog: dict[str, Any]) -> float:
    """Return how much of its bound in bytes a backlog takes; -1: it has none."""
    limit = int(backlog.get("limit_bytes", 0))
    return int(backlog["bytes"]) / limit if limit else -1.0


def room_of(backlog: dict[str, Any], most: int) -> int:
    """Return how many changes may be added to a backlog (docs/design.md, "GEARSYNC.STATUS") for a backfill
    that lets ``most`` wait; 0 or less: none.
    """
    entries = int(backlog["entries"])
    limit_entries, limit_bytes = int(backlog.get("limit_entries", 0)), int(backlog.get("limit_bytes", 0))
    if limit_bytes and int(backlog["bytes"]) >= limit_bytes // OWN_SHARE:
        return 0
    if limit_entries:
        most = min(most, max(1, limit_entries // OWN_SHARE))
    return most - entries
