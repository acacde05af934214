"""About how many keys some functions cover: a sample of each database, for its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.backfill.chosen import Scan
from deploy.reaching.connections import same_server
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard

SAMPLE = 500
"""Keys of each database that are looked at: the share is right within a few hundredths."""


def about(shards: Sequence[Shard], scans: Sequence[Scan]) -> int:
    """Return about how many keys the scans find on all shards; 0: so few that a sample has none.

    Raises ShardError.
    """
    return sum(_on(shard, db, scans) for shard in shards for db in sorted({each.db for each in scans}))


def _on(shard: Shard, db: int, scans: Sequence[Scan]) -> int:
    with errors_of(shard.address), same_server(shard.client, db=db) as client:
        with client.pipeline(transaction=False) as pipe:
            pipe.dbsize()
            for _ in range(SAMPLE):
                pipe.randomkey()
            size, *keys = pipe.execute()
    return share(int(size), keys, [each for each in scans if each.db == db])


def share(size: int, keys: Sequence[Any], scans: Sequence[Scan]) -> int:
    """Return how many of ``size`` keys the scans find, by a sample of them (None: there was no key)."""
    named = [key for key in keys if key is not None]
    covered = sum(any(each.covers(key) for each in scans) for key in named)
    return round(size * covered / len(named)) if named else 0
