"""How fast a backfill may go: keys a second, and changes that wait for SQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
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
    """The changes of a deployment that wait on one shard, of which a backfill lets no more be than ``most``.

    ``waits``: whether it waits just now; ``problems``: what is wrong then, if anything is.
    """

    def __init__(self, shard: Shard, deployment: str, most: int, stop: Stop) -> None:
        self._shard = shard
        self._deployment = deployment
        self._most = most
        self._stop = stop
        self.waits = False
        self.problems: list[str] = []

    def room(self) -> int:
        """Return how many changes may be added, at least 1; waits until there is room.

        Raises Stopped, ShardError, and CommandError when the deployment has gone.
        """
        while True:
            status = self._status()
            deployment = self._of_deployment(status)
            room = room_of(deployment["backlog"], self._most)
            self.waits = room <= 0
            self.problems = list(self._problems(status)) if self.waits else []
            if room > 0:
                return room
            self._stop.sleep(LOOK_SECONDS)

    def _status(self) -> dict[str, Any]:
        with errors_of(self._shard.address):
            return {"address": self._shard.address, **self._shard.host.status()}

    def _problems(self, status: dict[str, Any]) -> Iterator[str]:
        """Yield what keeps changes from SQL; what was refused or is not covered does not."""
        own = {**status, "deployments": [self._of_deployment(status)]}
        yield from paused_of([own])
        for each in attention([own]):
            beside = "dead letter" in each or "no template" in each
            if not beside:
                yield each

    def _of_deployment(self, status: dict[str, Any]) -> dict[str, Any]:
        for each in status["deployments"]:
            if each["name"] == self._deployment and each["state"] in CAPTURING:
                found: dict[str, Any] = each
                return found
        raise CommandError(
            f"{self._shard.address} has no active deployment {self._deployment} any more.",
            "deploy it again: gearsync deploy FILE.",
        )


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
