"""Which keys were written here lately: no row is read while a change of its key is on its way to SQL.

Of each lane the id of the last change is kept for each of 65,536 groups of keys, once a deployment of this
process asks (it reads rows, or its clients wait): that is a good part of what a capture costs. All of them
share it, also those that hold another version of this code: so it is made of Python's own types.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from gears.applying.change import parsed_id
from gears.redisgears.api import atomic, execute, plain
from gears.redisgears.names import LANE

BUCKETS = 1 << 16


def bucket_of(key: bytes) -> int:
    """Return the group of a key."""
    return crc32(key) % BUCKETS


class Written:
    """What the deployments of this process have captured."""

    def __init__(self) -> None:
        shared: dict[str, Any] = sys.__dict__.setdefault("_gearsync_written", {})
        self._lanes: dict[str, list[Any]] = shared.setdefault("lanes", {})
        self._held: dict[bytes, int] = shared.setdefault("held", {})
        self._ended: dict[int, int] = shared.setdefault("ended", {})
        self.watched: list[bool] = shared.setdefault("watched", [False])
        """Its one element: whether ``marks`` are to be written."""
        self.quiet: list[bool] = shared.setdefault("quiet", [False])
        """Its one element: whether what is written at this moment is no change."""
        self.passing: list[bool] = shared.setdefault("passing", [False])
        """Its one element: whether what is written at this moment waits for nothing."""

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Have nothing captured of what is done here, while Redis is locked, and nothing wait for SQL."""
        before = self.quiet[0]
        self.quiet[0] = True
        try:
            with self.past_hooks():
                yield
        finally:
            self.quiet[0] = before

    @contextmanager
    def past_hooks(self) -> Iterator[None]:
        """Have nothing that is done here, while Redis is locked, wait for SQL; it is captured."""
        before = self.passing[0]
        self.passing[0] = True
        try:
            yield
        finally:
            self.passing[0] = before

    def watch(self) -> None:
        """Have marks written from now on. Of what is in the lanes already, any key may be the one."""
        with atomic():
            if not self.watched[0]:
                self.watched[0] = True
                for stream, lane in self._lanes.items():
                    lane[1] = _last_of(stream)

    def marks(self, stream: str, epoch: int) -> list[str | None]:
        """Return the ids of the last changes in a lane, by groups of keys, to be written by who captures.

        In another epoch others may have written the lane: of what is in it now, any key may be the one.
        """
        lane = self._lanes.get(stream)
        if lane is None or lane[0] != epoch:
            lane = self._lanes[stream] = [epoch, _last_of(stream), [None] * BUCKETS]
        found: list[str | None] = lane[2]
        return found

    def hold(self, keys: Iterable[bytes]) -> None:
        """A client's write of these keys is about to be committed: what is read of them may be old then."""
        for key in keys:
            self._held[key] = self._held.get(key, 0) + 1

    def release(self, keys: Iterable[bytes]) -> None:
        """That write is over."""
        for key in keys:
            left = self._held.pop(key) - 1
            if left:
                self._held[key] = left
            bucket = bucket_of(key)
            self._ended[bucket] = self._ended.get(bucket, 0) + 1

    def captured(self, key: bytes) -> tuple[str | None, ...]:
        """Return what is another thing after each captured change of the key."""
        bucket = bucket_of(key)
        return tuple([lane[2][bucket] for lane in self._lanes.values()])

    def stamp(self, key: bytes) -> tuple[Any, ...]:
        """Return what is another thing after each change of the key, and while a client waits for one."""
        return self.captured(key), self._ended.get(bucket_of(key), 0), key in self._held

    def busy(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return those keys of which a change may wait in a lane, or a client waits for one."""
        return self.waiting(keys) | {key for key in keys if key in self._held}

    def waiting(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return those keys of which a change may wait in a lane."""
        wanted = {key: bucket_of(key) for key in keys}
        found: set[bytes] = set()
        for stream, (_, since, marks) in list(self._lanes.items()):
            entries = execute("XRANGE", stream, "-", "+", "COUNT", 1)
            if not entries:
                continue
            first = parsed_id(entries[0][0])
            if first <= since:
                return set(wanted)
            for key, bucket in wanted.items():
                mark = marks[bucket]
                if mark is not None and parsed_id(mark) >= first:
                    found.add(key)
        return found


def lane_prefixes() -> list[str]:
    """Return how the lanes of all deployments begin here, also of those that have captured nothing yet."""
    found: list[str] = []
    _find(execute("RG.DUMPREGISTRATIONS"), found)
    return [each[:-1] for each in found]


def _find(reply: Any, found: list[str]) -> None:
    for each in reply:
        if type(each) is list:
            _find(each, found)
        elif type(each) is str and each.startswith(LANE) and each.endswith(":*"):
            found.append(each)


def _last_of(stream: str) -> tuple[int, int]:
    """Return the id of the last entry that a stream ever had."""
    if not execute("EXISTS", stream):
        return 0, 0
    described = plain(execute("XINFO", "STREAM", stream))
    return parsed_id(described[described.index(b"last-generated-id") + 1].decode())
