"""Brings rows to Redis as SQL has them by now: a key is deleted, or its hash is made of the row.

A key of which a change still waits in a lane is left for later, because SQL does not have that change yet.
What is read of SQL is written only if nobody has written the key meanwhile (WATCH): a client's write always
wins.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import redis

from connectors import UnreadableRow
from gears.applying.images import RowReader, weight
from gears.declaring.functions import Function
from gears.declaring.patterns import Around
from gears.worker import lanes
from gears.worker.logs import event

log = logging.getLogger("gearsync.worker")

INVALIDATE_AT_ONCE = 1000
REFRESH_AT_ONCE = 200
REFRESH_BYTES = 1 << 24
"""About the most that one transaction brings to Redis: newer servers close the connection of one that queues
more than ``client-query-buffer-limit``, and would so again and again."""
_ELSEWHERE = (redis.exceptions.MovedError, redis.exceptions.AskError)


class Bringer:
    """Brings keys of one deployment, on a connection of its own."""

    def __init__(self, url: str, deployment: str) -> None:
        self._deployment = deployment
        self._client = lanes.connect(url)
        self._connection = self._client.connection_pool.get_connection()
        self._db = 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
        self._client.close()

    def bring(self, function: Function, reader: RowReader, keys: Sequence[bytes]) -> list[bytes]:
        """Have keys agree with SQL; return those for which it has to be done again later.

        Raises RedisError, or what the reader raises.
        """
        assert isinstance(function.pattern, Around)  # noqa: S101 (for mypy)
        refreshes = function.pattern.on_change == "refresh"
        size = REFRESH_AT_ONCE if refreshes else INVALIDATE_AT_ONCE
        later: list[bytes] = []
        for start in range(0, len(keys), size):
            part = keys[start : start + size]
            self._select(function.mapping.db)
            later += self._refresh(function, reader, part) if refreshes else self._delete(function, part)
        return later

    def _select(self, db: int) -> None:
        if db != self._db:
            self._ask(["SELECT", db])
            self._db = db

    def _delete(self, function: Function, keys: Sequence[bytes]) -> list[bytes]:
        return self._put(function, 0, dict.fromkeys(keys)) or []

    def _refresh(self, function: Function, reader: RowReader, keys: Sequence[bytes]) -> list[bytes]:
        watched = self._all([["WATCH", key] for key in keys], _ELSEWHERE)
        ours = [key for key, reply in zip(keys, watched) if not isinstance(reply, _ELSEWHERE)]
        if not ours:
            return []
        # Asked before the row is: what does not wait now is in the row, or breaks the WATCH.
        later: list[bytes] = self._ask(["GEARSYNC.WAITING", function.mapping.db, *ours])
        ready = sorted(set(ours) - set(later))
        rows = _read(reader, ready)
        assert isinstance(function.pattern, Around)  # noqa: S101 (for mypy)
        is_much = len(ready) > 1 and sum(weight(row or {}) for row in rows.values()) > REFRESH_BYTES
        if not ready or is_much:
            self._ask(["UNWATCH"])
        if not ready:
            return later
        waiting = None if is_much else self._put(function, function.pattern.ttl * 1000, rows)
        if waiting is not None:
            return later + waiting
        # Somebody has written one of them meanwhile, which? Or they are too much at once.
        if len(ready) == 1:
            return later + ready
        half = len(ready) // 2
        first = self._refresh(function, reader, ready[:half])
        return later + first + self._refresh(function, reader, ready[half:])

    def _put(
        self, function: Function, ttl_ms: int, rows: dict[bytes, dict[bytes, bytes] | None]
    ) -> list[bytes] | None:
        """Put rows; return the keys that were left alone for a change that waits. None: nothing was done."""
        db = function.mapping.db
        put: list[Any] = ["GEARSYNC.PUT", self._deployment, db, "REPLACE", ttl_ms, len(rows)]
        for key, row in rows.items():
            put += [key, len(row) if row else -1]
            for field, value in (row or {}).items():
                put += [field, value]
        *_, done = self._all([["MULTI"], put, ["GEARSYNC.WAITING", db, *rows], ["EXEC"]], ())
        if done is None:
            return None
        for reply in done:
            if isinstance(reply, redis.RedisError):
                raise reply
        waiting: list[bytes] = done[1]
        return waiting

    def _ask(self, words: Sequence[Any]) -> Any:
        return self._all([words], ())[0]

    def _all(self, commands: Sequence[Sequence[Any]], expected: tuple[type[Exception], ...]) -> list[Any]:
        """Send commands at once and return their replies. Raises the first error that is not expected."""
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands))
        replies: list[Any] = []
        first: redis.ResponseError | None = None
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except redis.ResponseError as error:
                replies.append(error)
                if first is None and not isinstance(error, expected):
                    first = error
        if first is not None:
            raise first
        return replies


def _read(reader: RowReader, keys: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes] | None]:
    """Return the rows of keys. One that can't be read must not keep the others back: its hash goes, so that
    nobody takes an older state for it.
    """
    try:
        return reader.read(keys)
    except UnreadableRow as error:
        if len(keys) == 1:
            told = event("row_unreadable", function=reader.function.name, error=str(error))
            message = "%s: the hash of %r can't be made anew, and goes: %s"
            log.warning(message, reader.function.name, keys[0][:200], error, extra=told)
            return {keys[0]: None}
    half = len(keys) // 2
    return {**_read(reader, keys[:half]), **_read(reader, keys[half:])}
