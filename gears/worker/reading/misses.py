"""The Redis side of read-through: keys whose rows clients wait for, and the rows that are brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import redis

from gears.applying.images import weight
from gears.worker.lanes import takes_less

Fields = Mapping[bytes, bytes]
BYTES = 1 << 24
"""About the most that one command brings to Redis, which holds it in memory beside the hashes."""


class Miss(NamedTuple):
    """One key whose row is wanted. ``function``: its index among the deployment's functions that read."""

    token: int
    function: int
    key: bytes


class Replaced(Exception):
    """The server has another version of the deployment by now, or none."""


class Misses:
    """The misses of one target, on a connection that nobody else uses."""

    def __init__(self, client: redis.Redis, name: str, version: int, target: str, digest: str = "") -> None:
        self._digest = [digest] if digest else []
        self._client = client
        self._name = name
        self._version = version
        self._target = target

    def take(self, most: int, wait_ms: int) -> list[Miss]:
        """Return what clients wait for, after at most ``wait_ms``; what was taken before is given up.

        Raises Replaced.
        """
        words = ("GEARSYNC.MISSES", self._name, self._version, self._target, most, wait_ms)
        try:
            return [Miss(*entry) for entry in self._client.execute_command(*words, *self._digest)]
        except redis.ResponseError as error:
            if self._digest and takes_less(error):
                self._digest = []
                return self.take(most, wait_ms)
            if "another version" in str(error) or "no deployment" in str(error):
                raise Replaced(str(error)) from error
            raise

    def bring(self, rows: Sequence[tuple[int, int, Fields | None]]) -> int:
        """Answer misses: token, time to live in ms (0: for ever), fields (None or empty: there is no row).

        Returns how many hashes were set.
        """
        done, start, size = 0, 0, 0
        for end, (_, _, fields) in enumerate(rows, 1):
            size += weight(fields or {})
            if size > BYTES or end == len(rows):
                done += self._bring(rows[start:end])
                start, size = end, 0
        return done

    def _bring(self, rows: Sequence[tuple[int, int, Fields | None]]) -> int:
        words: list[Any] = ["GEARSYNC.LOADED", self._name, self._target, len(rows)]
        for token, ttl_ms, fields in rows:
            words += [token, ttl_ms, len(fields) if fields else -1]
            for pair in (fields or {}).items():
                words += pair
        return int(self._client.execute_command(*words))

    def fail(self, tokens: Sequence[int], sentence: str) -> None:
        """Answer misses whose rows can't be read, and say why."""
        self._client.execute_command("GEARSYNC.UNREAD", self._name, self._target, sentence, *tokens)
