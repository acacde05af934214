"""The versions of a deployment that are kept in Redis, so that one can be deployed again."""

from __future__ import annotations

from typing import Any

from gears.redisgears.api import atomic, execute, plain
from gears.redisgears.names import versions_prefix
from gears.redisgears.shard import Shard

KEPT = 5


class Kept:
    """One deployment's versions on this shard."""

    def __init__(self, deployment: str, shard: Shard) -> None:
        self._deployment = deployment
        self._shard = shard

    def keep(self, version: int, payload: str) -> None:
        """Keep the present version, and the last before it."""
        with atomic():
            key = self._key()
            execute("HSET", key, version, payload)
            for each in sorted(map(int, execute("HKEYS", key)))[: -KEPT - 1]:
                execute("HDEL", key, each)

    def before(self, version: int) -> list[tuple[int, str]]:
        """Return the versions before one, oldest first, each with its payload."""
        flat: Any = plain(execute("HGETALL", self._key()))
        found = sorted((int(number), payload.decode()) for number, payload in zip(flat[::2], flat[1::2]))
        # A newer one was taken back, because a shard refused it.
        return [each for each in found if each[0] < version][-KEPT:]

    def _key(self) -> str:
        self._shard.refresh()
        return self._shard.own(versions_prefix(self._deployment))
