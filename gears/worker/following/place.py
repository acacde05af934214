"""How far a follower is, as Redis remembers it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import redis


class Address(NamedTuple):
    """Where it stands how far a follower is: under ``name`` in SQL, and in the hash ``key`` of Redis.

    On a shard that has no slot there is no such key: it is empty.
    """

    name: str
    key: str


def address_of(client: redis.Redis, deployment: str, target: str) -> Address:
    """Return the address of a follower on this shard."""
    source = client.execute_command("GEARSYNC.LANES", deployment)[1].decode()
    tag = json.loads(client.execute_command("GEARSYNC.STATUS"))["tag"]
    key = f"gearsync:{{{tag}}}:followed:{deployment}" if tag else ""
    return Address(f"{source}:{deployment}:{target}", key)


class Place:
    """Where a follower is, as Redis knows it: what it has lost in a crash, it does not take for brought."""

    def __init__(self, client: redis.Redis, address: Address, target: str) -> None:
        self._client = client
        self._key = address.key
        self._target = target
        self._written: str | None = None

    def read(self) -> str | None:
        """Return the position; None: it is not known here."""
        found: Any = self._client.hget(self._key, self._target) if self._key else None
        return None if found is None else str(found.decode())

    def write(self, position: str) -> None:
        """Remember a position, after all before it was brought: so it stands in Redis' log too."""
        if self._key and position != self._written:
            self._client.hset(self._key, self._target, position)
        self._written = position

    def forget(self) -> None:
        """Remember nothing any more."""
        if self._key:
            self._client.hdel(self._key, self._target)
