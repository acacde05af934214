"""Rows to the shards that own their keys: nothing newer in Redis is touched, and nothing is captured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import redis

from deploy.hosts.base import Row
from deploy.reaching.clients import Clients
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from gears.applying.images import RowReader

PAUSE_SECONDS = 0.05
"""Between two tries of what was left alone."""
WAIT_SECONDS = 10.0
"""How long a run waits, all in all, for changes on their way to SQL; then it leaves their keys alone."""
MOVE_SECONDS = 60.0
"""How long a slot may take to come to its new shard."""

Marks = dict[str, bytes]
"""The mark of each shard, by its address."""

_AWAY = (redis.exceptions.MovedError, redis.exceptions.AskError, redis.exceptions.TryAgainError)


@dataclass
class Outcome:
    """What became of rows: ``set``; ``waiting``: left alone, for a change of the key waits in a lane;
    ``gone``: no row any more once that change was in SQL. The others' keys were there already.
    """

    set: int = 0
    waiting: int = 0
    gone: int = 0


@dataclass
class _Left:
    """Keys that were left alone although they are not there: a change of theirs waits, or their slot is
    another shard's. ``error`` is what the last of the latter said.
    """

    waiting: list[bytes] = field(default_factory=list)
    moved: list[bytes] = field(default_factory=list)
    error: Exception | None = None


class Putter:
    """Puts rows of one function as hashes that live ``ttl_ms``; 0: for ever. ``shards``: as they are now."""

    def __init__(self, shards: Shards, deployment: str, reader: RowReader, ttl_ms: int) -> None:
        self.shards = shards
        self._deployment = deployment
        self._reader = reader
        self._ttl_ms = ttl_ms
        self._db = reader.function.mapping.db
        self._patience = WAIT_SECONDS
        self._clients = Clients()

    def __enter__(self) -> Putter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()

    def mark(self) -> Marks:
        """Return what tells ``put`` when rows were read; to be asked for before. Raises ShardError."""
        marks = {}
        for shard in self.shards.shards:
            with errors_of(shard.address):
                marks[shard.address] = shard.host.mark()
        return marks

    def require_ready(self) -> None:
        """See that each shard takes rows. Raises ShardError."""
        marks = self.mark()
        for shard in self.shards.shards:
            with errors_of(shard.address):
                shard.host.put(self._deployment, self._db, self._ttl_ms, marks[shard.address], [])

    def put(self, rows: Sequence[Row], marks: Marks) -> Outcome:
        """Put rows whose keys all differ, and that were read after ``marks``. Raises ShardError, or what
        reading rows raises; then nobody knows which are put, and all may be put again.
        """
        outcome = Outcome()
        deadline = time.monotonic() + MOVE_SECONDS
        images = dict(rows)
        while images:
            left = self._try(images, marks, outcome)
            if left.moved:
                self._follow(left, deadline)
            if self._patience <= 0:
                outcome.waiting += len(left.waiting)
                left.waiting.clear()
            again = left.moved + left.waiting
            if again:
                time.sleep(PAUSE_SECONDS)
                self._patience -= PAUSE_SECONDS if left.waiting else 0
            # SQL may have newer rows of them by now, or none.
            marks = self.mark() if again else {}
            images = {key: fields for key, fields in self._reader.read(again).items() if fields}
            outcome.gone += len(again) - len(images)
        return outcome

    def _try(self, images: Mapping[bytes, Mapping[bytes, bytes]], marks: Marks, outcome: Outcome) -> _Left:
        left = _Left()
        for shard, rows in self._by_shard(images):
            with errors_of(shard.address):
                since = marks.get(shard.address)
                if since is None:
                    # A shard that was found only after the rows were read.
                    left.waiting += [key for key, _ in rows]
                    continue
                made = shard.host.put(self._deployment, self._db, self._ttl_ms, since, rows)
                outcome.set += made
                if made < len(rows):
                    self._ask(shard, [key for key, _ in rows], left)
        return left

    def _by_shard(self, images: Mapping[bytes, Mapping[bytes, bytes]]) -> Iterator[tuple[Shard, list[Row]]]:
        parts: dict[str, tuple[Shard, list[Row]]] = {}
        for row in images.items():
            shard = self.shards.of_key(row[0])
            parts.setdefault(shard.address, (shard, []))[1].append(row)
        yield from parts.values()

    def _ask(self, shard: Shard, keys: Sequence[bytes], left: _Left) -> None:
        """Find out which keys are not there, and whose they are."""
        with self._client(shard).pipeline(transaction=False) as pipe:
            for key in keys:
                # No command that a read-through function answers.
                pipe.pttl(key)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        for key, reply in zip(keys, replies):
            if isinstance(reply, _AWAY):
                left.moved.append(key)
                left.error = reply
            elif isinstance(reply, Exception):
                raise reply
            elif reply == -2:
                left.waiting.append(key)

    def _follow(self, left: _Left, deadline: float) -> None:
        """Find the shards anew, as their slots are on the way. Raises ShardError when that takes too long."""
        if left.error is not None and time.monotonic() > deadline:
            with errors_of(", ".join(self.shards.addresses)):
                raise left.error
        self.shards = self._clients.again(self.shards)

    def _client(self, shard: Shard) -> redis.Redis:
        """Return a client to the function's database on a shard."""
        return self._clients.of(shard, self._db)
