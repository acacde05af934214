"""The keys of one function over all shards: found, read, and whether a change of theirs is on its way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis

from deploy.reaching.clients import Clients
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from deploy.room import Room
from deploy.verifying.expected import Expecter, Image
from deploy.verifying.states import states_of
from gears.declaring import kinds

SCAN_KEYS = 1000
"""How many keys one step of a SCAN looks at, about."""


class Hashes:
    """The keys of one function, and what these hold, of any type. ``shards`` are as they are now."""

    def __init__(self, shards: Shards, expecter: Expecter) -> None:
        self.shards = shards
        self._expecter = expecter
        self._db = expecter.function.mapping.db
        self._is_of_hashes = expecter.function.mapping.type == kinds.HASH
        self._states = states_of(expecter, shards.kind == "cluster")
        self._clients = Clients(Room().take)

    def __enter__(self) -> Hashes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()

    @property
    def tells_waiting(self) -> bool:
        """Whether the shards know of which keys a change is on its way."""
        return all(shard.host.tells_waiting for shard in self.shards.shards)

    def keys(self, shard: Shard) -> Iterator[list[bytes]]:
        """Yield keys of a shard, step by step, among them all of the function's: one that is there all the
        time comes at least once.
        """
        client, cursor = self.client(shard), 0
        pattern = self._expecter.function.mapping.keys.glob()
        while True:
            with errors_of(shard.address):
                reply: Any = client.scan(cursor, pattern, SCAN_KEYS)
            cursor, found = reply
            yield found
            if not cursor:
                return

    def arrivals(self, shard: Shard) -> str:
        """Return what is another text once keys of other shards have come to this one."""
        if self.shards.kind != "cluster":
            return ""
        with errors_of(shard.address):
            return shard.host.arrivals()

    def random(self, shard: Shard, tries: int) -> list[bytes]:
        """Return those of so many random keys of a shard that are the function's."""
        with errors_of(shard.address), self.client(shard).pipeline(transaction=False) as pipe:
            for _ in range(tries):
                pipe.randomkey()
            found: list[Any] = pipe.execute()
        return [key for key in found if key is not None and self._expecter.match(key) is not None]

    def size(self) -> int:
        """Return how many keys the function's database has on all shards, whosever they are."""
        total = 0
        for shard in self.shards.shards:
            with errors_of(shard.address):
                total += int(self.client(shard).dbsize())
        return total

    def images(self, shard: Shard, keys: Sequence[bytes]) -> list[Image]:
        """Return what keys hold as one shard has them, in their order."""
        with errors_of(shard.address):
            return self._states.read(shard.host, self.client(shard), keys)

    def sizes(self, shard: Shard, keys: Sequence[bytes]) -> list[int]:
        """Return how many members keys have, as one shard has them."""
        with errors_of(shard.address):
            return self._states.sizes(self.client(shard), keys)

    def there(self, keys: Sequence[bytes]) -> list[bool]:
        """Return whether each key is there, and of the function's type, where its slot is."""
        found: dict[bytes, bool] = {}
        for shard, part in self._by_shard(keys):
            with errors_of(shard.address):
                seen = self._states.there(shard.host, self.client(shard), part)
            found.update(zip(part, seen))
        return [found[key] for key in keys]

    def mark(self) -> dict[str, bytes]:
        """Return what tells ``looked`` when rows were read, by the shards' addresses."""
        marks = {}
        for shard in self.shards.shards:
            with errors_of(shard.address):
                marks[shard.address] = shard.host.mark()
        return marks

    def looked(
        self, keys: Sequence[bytes], marks: Mapping[str, bytes]
    ) -> tuple[dict[bytes, Image], set[bytes]]:
        """Return what keys hold, and those keys whose rows may have been older when they were read after
        ``marks``. Every shard is asked: a key may be on its way from one to another.
        """
        # What is read before it is asked what waits was the same all the time, if nothing does.
        images: dict[bytes, Image] = dict.fromkeys(keys) if self._is_of_hashes else self.now(keys)
        unsettled: set[bytes] = set()
        fields = self._expecter.fields if self._is_of_hashes else []
        for shard in self.shards.shards:
            mark = marks.get(shard.address)
            if mark is None:
                unsettled.update(keys)
                continue
            with errors_of(shard.address):
                client = self.client(shard)
                seen, late = shard.host.images_since(client, self._db, fields, keys, mark)
            unsettled.update(keys[at] for at in late)
            if self._is_of_hashes:
                images.update((key, image) for key, image in zip(keys, seen) if image is not None)
        return images, unsettled

    def now(self, keys: Sequence[bytes]) -> dict[bytes, Image]:
        """Return what keys hold, wherever they are."""
        images: dict[bytes, Image] = dict.fromkeys(keys)
        for shard in self.shards.shards:
            seen = self.images(shard, keys)
            images.update((key, image) for key, image in zip(keys, seen) if image is not None)
        return images

    def recapture(self, deployment: str, keys: Sequence[bytes]) -> int:
        """Have the present state of keys captured anew; return the number of changes that makes."""
        # One by one: their slots differ, and may be on their way.
        return sum(self._clients.recapture(self.shards, self._db, deployment, key) for key in keys)

    def refresh(self) -> None:
        """Find the shards as they are now."""
        self.shards = self._clients.again(self.shards)

    def client(self, shard: Shard) -> redis.Redis:
        """Return a client to the function's database on a shard."""
        return self._clients.of(shard, self._db)

    def _by_shard(self, keys: Sequence[bytes]) -> Iterator[tuple[Shard, list[bytes]]]:
        if self.shards.kind != "cluster":
            yield self.shards.shards[0], list(keys)
            return
        parts: dict[str, tuple[Shard, list[bytes]]] = {}
        for key in keys:
            shard = self.shards.of_key(key)
            parts.setdefault(shard.address, (shard, []))[1].append(key)
        yield from parts.values()
