"""Clients to one Redis database of each shard, whatever database the shards themselves are talked to in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack

import redis

from deploy.hosts.base import IN_WRITING
from deploy.reaching.connections import same_server
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards

#: How long clients' writes of one key, one after the other, may keep it from being captured.
AFTER_WRITES_SECONDS = 30.0


def _no_bound(shard: Shard, deployment: str, keys: int) -> None:
    """Let as many changes wait as there may."""


class Clients(ExitStack):
    """One client for each Redis database of each shard, made when it is asked for, closed at the end.

    ``room`` is called before keys are captured: with the shard, the deployment, and how many they are.
    """

    def __init__(self, room: Callable[[Shard, str, int], None] = _no_bound) -> None:
        super().__init__()
        self._room = room
        self._clients: dict[tuple[str, int], redis.Redis] = {}

    def of(self, shard: Shard, db: int) -> redis.Redis:
        """Return the client to a database of a shard."""
        client = self._clients.get((shard.address, db))
        if client is None:
            client = same_server(shard.client, db=db)
            self._clients[shard.address, db] = client
            self.callback(client.close)
        return client

    def again(self, shards: Shards) -> Shards:
        """Return the shards as they are now, to be closed at the end as well; those that are known if they
        are as they were, since who asks again and again would come to have all the connections there can be.
        """
        found = shards.again()
        if _layout(found) == _layout(shards):
            found.close()
            return shards
        self.callback(found.close)
        self._clients.clear()
        return found

    def recapture(self, shards: Shards, db: int, deployment: str, key: bytes) -> int:
        """Have the present state of a key captured anew by a deployment; return the number of changes.

        The shard is that of the key by now. A client's write of it that waits for SQL comes first. Raises
        ShardError.
        """
        deadline = time.monotonic() + AFTER_WRITES_SECONDS

        def attempt(shard: Shard) -> int | None:
            self._room(shard, deployment, 1)
            command = shard.host.recapture(deployment, key)
            try:
                return shard.host.captured(shards.on_key(self.of(shard, db), *command))
            except redis.ResponseError as error:
                if not str(error).startswith("THROUGH") or time.monotonic() > deadline:
                    raise
                return None

        return _until_free(shards, key, attempt)

    def capture(self, shards: Shards, db: int, deployment: str, key: bytes, is_end: bool) -> int:
        """As ``recapture``; unless ``is_end``, a key that is gone is left alone, and ``Host.backfilled`` says
        what is returned.
        """
        if is_end:
            return self.recapture(shards, db, deployment, key)
        deadline = time.monotonic() + AFTER_WRITES_SECONDS

        def attempt(shard: Shard) -> int | None:
            self._room(shard, deployment, 1)
            command = shard.host.backfill(deployment, [key])
            made = shard.host.backfilled(shards.on_key(self.of(shard, db), *command))[0]
            return made if made != IN_WRITING or time.monotonic() > deadline else None

        return _until_free(shards, key, attempt)

    def capture_together(
        self,
        shards: Shards,
        deployment: str,
        places: Sequence[tuple[int, bytes]],
        ends: Set[tuple[int, bytes]],
    ) -> dict[tuple[int, bytes], int]:
        """As ``capture``, of several keys in one transaction: each the number of a database, and a key.

        All are on the shard of the first one. Raises ShardError.
        """
        shard = shards.of_key(places[0][1])
        host, first = shard.host, places[0][0]
        self._room(shard, deployment, len(places))
        with errors_of(shard.address), self.of(shard, first).pipeline(transaction=True) as pipe:
            for place in places:
                db, key = place
                pipe.execute_command("SELECT", db)
                is_end = place in ends
                pipe.execute_command(
                    *(host.recapture(deployment, key) if is_end else host.backfill(deployment, [key]))
                )
            # As it was: the connection is used again.
            pipe.execute_command("SELECT", first)
            replies = pipe.execute()
        return {
            place: host.captured(reply) if place in ends else host.backfilled(reply)[0]
            for place, reply in zip(places, replies[1::2])
        }


def _layout(shards: Shards) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    return [(each.address, each.slots) for each in shards.shards]


def _until_free(shards: Shards, key: bytes, attempt: Callable[[Shard], int | None]) -> int:
    """Attempt something on the shard that has the key by now, until it is no None: a client is writing it."""
    while True:
        shard = shards.of_key(key)
        with errors_of(shard.address):
            made = attempt(shard)
        if made is not None:
            return made
        time.sleep(0.01)
