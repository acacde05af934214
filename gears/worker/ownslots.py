"""Which slots of a Redis Cluster are this shard's, and whether one is on its way here."""

from __future__ import annotations

import time

import redis

from gears.worker.lanes import RedisCommands

LOOK_SECONDS = 1.0


class OwnSlots:
    """Tells when slots come or go. On a server that is no cluster, none ever do."""

    def __init__(self, client: redis.Redis) -> None:
        self._commands = RedisCommands(client)
        self.is_cluster = b"cluster_enabled:1" in self._commands.call("INFO", "cluster")
        self.is_importing = False
        self._known: list[bytes] = []
        self._looked = 0.0
        if self.is_cluster:
            self._known = self._look()

    def have_changed(self) -> bool:
        """Whether this shard has other slots than at the beginning; it looks once a second."""
        now = time.monotonic()
        if not self.is_cluster or now - self._looked < LOOK_SECONDS:
            return False
        return self._look() != self._known

    def _look(self) -> list[bytes]:
        self._looked = time.monotonic()
        nodes: bytes = self._commands.call("CLUSTER", "NODES")
        mine = next(line.split() for line in nodes.splitlines() if b"myself" in line.split()[2])
        self.is_importing = any(b"-<-" in part for part in mine[8:])
        return [part for part in mine[8:] if not part.startswith(b"[")]
