"""Keys to the shard that has them, in small commands: what each one is becomes a change of its lane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.crc import key_slot

from deploy.backfill.limits import Stop
from deploy.backfill.place import Counts
from deploy.hosts.base import IN_WRITING, NO_HASH
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards

BATCH = 100
"""The most keys of one command: the server serves nobody else meanwhile."""
AGAIN_SECONDS = 0.05
"""Between two tries of a key that a client is writing."""

_ELSEWHERE = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterCrossSlotError,
)


class Capturer:
    """Captures keys of one database of one shard, whatever slots move meanwhile."""

    def __init__(
        self, shards: Shards, shard: Shard, client: redis.Redis, deployment: str, stop: Stop
    ) -> None:
        self._shards = shards
        self._shard = shard
        self._client = client
        self._deployment = deployment
        self._stop = stop

    def capture(self, keys: Sequence[bytes], counts: Counts) -> None:
        """Capture keys, and count them. Raises ShardError and Stopped; then nobody knows which are."""
        left = list(keys)
        while left:
            left = [key for key, made in self._all(left) if not _count(made, counts)]
            if left:
                # A client's write of it is between SQL and Redis; that takes its timeout at most.
                self._stop.sleep(AGAIN_SECONDS)

    def _all(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        batches = list(self._batches(keys))
        host = self._shard.host
        with errors_of(self._shard.address):
            with self._client.pipeline(transaction=False) as pipe:
                for batch in batches:
                    pipe.execute_command(*host.backfill(self._deployment, batch))
                replies: list[Any] = pipe.execute(raise_on_error=False)
            for batch, reply in zip(batches, replies):
                if isinstance(reply, _ELSEWHERE):
                    yield from self._one_by_one(batch)
                elif isinstance(reply, Exception):
                    raise reply
                else:
                    yield from zip(batch, host.backfilled(reply))

    def _batches(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Yield what one command can take: in a cluster, keys of one slot."""
        groups: dict[int, list[bytes]] = {}
        for key in keys:
            groups.setdefault(key_slot(key) if self._shards.kind == "cluster" else 0, []).append(key)
        for group in groups.values():
            for start in range(0, len(group), BATCH):
                yield group[start : start + BATCH]

    def _one_by_one(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Capture keys of a slot that is on its way, each where it is now."""
        host = self._shard.host
        for key in keys:
            command = host.backfill(self._deployment, [key])
            yield key, host.backfilled(self._shards.on_key(self._client, *command))[0]


def _count(made: int, counts: Counts) -> bool:
    """Count what became of a key; return whether that is all."""
    if made == IN_WRITING:
        return False
    if made == NO_HASH:
        counts.gone += 1
    elif made == 0:
        counts.uncovered += 1
    else:
        counts.captured += 1
    return True
