"""Room among the changes that may wait, for who has many keys captured anew, one by one."""

from __future__ import annotations

import sys
import time
from typing import Any

from deploy.output import CommandError
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard

SHARE = 0.9
"""Of a bound, which is not filled: clients' writes would be refused."""
BY_BYTES = 20
"""How many keys go between two looks where bytes are bounded: nobody knows how large they are."""
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
"""How long to wait for room, before somebody has to see why there is none."""


class Room:
    """Gives room on all shards; waits where there is none, at most ``seconds`` each time."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        # How many may go until the next look, by shard and deployment.
        self._left: dict[tuple[str, str], int] = {}

    def take(self, shard: Shard, deployment: str, keys: int = 1) -> None:
        """Wait until there is room for so many keys, or for as many as there ever is.

        Raises ShardError, and CommandError when that takes too long.
        """
        place = shard.address, deployment
        left = self._left.get(place, 0)
        if left <= 0:
            left = self._wait(shard, deployment)
        self._left[place] = left - keys

    def _wait(self, shard: Shard, deployment: str) -> int:
        deadline = time.monotonic() + self._seconds
        while True:
            with errors_of(shard.address):
                status = shard.host.status()
            rooms = [_room(each) for each in status["deployments"] if each["name"] == deployment]
            # One that is gone captures nothing, which is told by who captures.
            room = min(rooms, default=sys.maxsize)
            if room > 0:
                return room
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{shard.address}: nearly as many changes of {deployment} wait as its backlog allows, "
                    f"and there was no room for more in {self._seconds:g} s.",
                    "see gearsync status for what is in their way, then run the same command again.",
                )
            time.sleep(LOOK_SECONDS)


def _room(deployment: dict[str, Any]) -> int:
    """Return how many keys may be captured for a deployment (docs/design.md, "GEARSYNC.STATUS")."""
    backlog = deployment["backlog"]
    entries, size = int(backlog["entries"]), int(backlog["bytes"])
    most, most_bytes = int(backlog.get("limit_entries", 0)), int(backlog.get("limit_bytes", 0))
    room = sys.maxsize
    if most and entries >= most * SHARE:
        room = 0
    elif most:
        # A key makes a change for each target.
        room = max(1, int(most * SHARE - entries) // len(deployment["targets"]))
    if most_bytes:
        room = min(room, BY_BYTES if size < most_bytes * SHARE else 0)
    return room
