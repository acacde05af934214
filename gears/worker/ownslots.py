"""Which slots of a Redis Cluster are this shard's, and whether one is on its way here."""

from __future__ import annotations

import time

import redis

from gears.worker.lanes import RedisCommands

LOOK_SECONDS = 1.0


def leaving(client: redis.Redis) -> frozenset[int]:
    """Return the slots that are on their way from this shard to another."""
    commands = RedisCommands(client)
    if not _is_cluster(commands):
        return frozenset()
    parts = [part[1:].split(b"->-") for part in _own_parts(commands) if part.startswith(b"[")]
    return frozenset(int(part[0]) for part in parts if len(part) > 1)


def _is_cluster(commands: RedisCommands) -> bool:
    return b"cluster_enabled:1" in commands.call("INFO", "cluster")


def _own_parts(commands: RedisCommands) -> list[bytes]:
    nodes: bytes = commands.call("CLUSTER", "NODES")
    return next(line.split() for line in nodes.splitlines() if b"myself" in line.split()[2])[8:]


class OwnSlots:
    """Tells when slots come or go. On a server that is no cluster, none ever do."""

    def __init__(self, client: redis.Redis) -> None:
        self._commands = RedisCommands(client)
        self.is_cluster = _is_cluster(self._commands)
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
        mine = _own_parts(self._commands)
        self.is_importing = any(b"-<-" in part for part in mine)
        return [part for part in mine if not part.startswith(b"[")]
