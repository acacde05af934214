"""The way of a backfill through the keys of one server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from deploy.backfill.capturing import Capturer
from deploy.backfill.chosen import Scan
from deploy.backfill.limits import Backlog, Pace, Stop, Stopped
from deploy.backfill.place import Counts, Place, Progress
from deploy.reaching.connections import same_server
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shard, Shards

PAGE = 1000
"""How many places of the keyspace one SCAN looks at."""
PLACE_SECONDS = 0.2
"""Between two notes of the place. What came after the last one is captured again after a kill: harmless."""


class Walk:
    """Goes on from ``progress``, which it keeps true, also in Redis."""

    def __init__(
        self,
        shards: Shards,
        shard: Shard,
        run_id: str,
        progress: Progress,
        place: Place,
        backlog: Backlog,
        pace: Pace,
        stop: Stop,
    ) -> None:
        self._shards = shards
        self._shard = shard
        self._run_id = run_id
        self._progress = progress
        self._place = place
        self._backlog = backlog
        self._pace = pace
        self._stop = stop
        self._noted = 0.0

    def run(self, deployment: str, scans: Sequence[Scan]) -> None:
        """Capture the keys of all scans. Raises Stopped, ShardError and CommandError."""
        self._note()
        try:
            for scan in scans[self._progress.scan :]:
                with same_server(self._shard.client, db=scan.db) as client:
                    capturer = Capturer(self._shards, self._shard, client, deployment, self._stop)
                    self._scan(client, scan, capturer)
        except Stopped:
            self._note()
            raise
        self._progress.done = True
        self._note()

    def _scan(self, client: redis.Redis, scan: Scan, capturer: Capturer) -> None:
        cursor: int | None = None
        while cursor != 0:
            self._stop.check()
            cursor, keys = self._page(client, scan)
            covered = [key for key in keys if scan.covers(key)]
            counts = Counts(scanned=len(keys), uncovered=len(keys) - len(covered))
            self._capture(covered, capturer, counts)
            self._progress.counts += counts
            self._progress.cursor = cursor
            if cursor == 0:
                self._progress.scan += 1
            if time.monotonic() - self._noted >= PLACE_SECONDS:
                self._note()

    def _page(self, client: redis.Redis, scan: Scan) -> tuple[int, list[bytes]]:
        """Return some keys and where to go on, by the very process to which the cursor belongs."""
        with errors_of(self._shard.address), client.pipeline(transaction=False) as pipe:
            pipe.scan(self._progress.cursor, scan.pattern, self._pace.page(PAGE), scan.type)
            pipe.info("server")
            (cursor, keys), server = pipe.execute()
        if str(server["run_id"]) != self._run_id:
            raise ShardError(f"Redis at {self._shard.address} was restarted meanwhile.")
        return int(cursor), keys

    def _capture(self, keys: list[bytes], capturer: Capturer, counts: Counts) -> None:
        while keys:
            count = self._pace.most(min(len(keys), self._backlog.room()))
            capturer.capture(keys[:count], counts)
            self._pace.keep(count)
            keys = keys[count:]

    def _note(self) -> None:
        self._place.write(self._shards, self._run_id, self._progress)
        self._noted = time.monotonic()


def run_id_of(shard: Shard) -> str:
    """Return what tells this process of a server from others. Raises ShardError."""
    with errors_of(shard.address):
        server: Any = shard.client.info("server")
    return str(server["run_id"])
