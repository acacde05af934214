"""What keys hold, by their type: hashes as the host reads them, all others by commands of the server's own.

None of these commands makes a read-through function load a row. In a cluster each goes with ASKING, so that
a shard answers also for keys that have come to it while their slot is still another's.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import redis

from deploy.hosts.base import Host
from deploy.hosts.hashes import replies
from deploy.verifying.expected import Expecter, Image
from gears.applying.members import too_many
from gears.declaring import kinds
from gears.declaring.mapping import Mapping
from gears.worker import memberstates

#: What JSON.GET says where no module has it, and RedisJSON of a key of another type.
NO_DOCUMENT = ("unknown command", "Existing key has wrong Redis type")


class States(abc.ABC):
    """The keys of one mapping. ``client`` is always one to the mapping's database on a shard."""

    @abc.abstractmethod
    def read(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[Image]:
        """Return what each key holds; None: it is not there, or of another type."""

    @abc.abstractmethod
    def there(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[bool]:
        """Return whether there is a key of this type for each."""

    def sizes(self, client: redis.Redis, keys: Sequence[bytes]) -> list[int]:
        """Return how many members each key has; no other type has any."""
        return [0] * len(keys)


def states_of(expecter: Expecter, is_cluster: bool) -> States:
    """Return what reads the keys of a function."""
    mapping = expecter.function.mapping
    if mapping.type == kinds.HASH:
        return _Hashes(mapping, expecter.fields)
    ask = _asking if is_cluster else _plainly
    return _Documents(ask) if mapping.type == kinds.JSON else _Members(mapping, ask)


class _Hashes(States):
    def __init__(self, mapping: Mapping, fields: Sequence[bytes] | None) -> None:
        self._db = mapping.db
        self._fields = fields

    def read(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[Image]:
        return list(host.images(client, self._db, self._fields, keys))

    def there(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[bool]:
        return [image is not None for image in host.images(client, self._db, [], keys)]


Ask = Callable[[redis.Redis, "Sequence[tuple[Any, ...]]"], "list[Any]"]


class _Documents(States):
    """JSON in strings, or in keys of the server's JSON type."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def read(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[Image]:
        found = self._either(client, keys, "GET", "JSON.GET")
        return [None if each is None else [each] for each in found]

    def there(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[bool]:
        # The length of a string, the type of a document: either is something.
        return [bool(each) for each in self._either(client, keys, "STRLEN", "JSON.TYPE")]

    def _either(self, client: redis.Redis, keys: Sequence[bytes], of_text: str, of_json: str) -> list[Any]:
        found = self._ask(client, [(of_text, key) for key in keys])
        others = [at for at, each in enumerate(found) if isinstance(each, redis.ResponseError)]
        others_said = self._ask(client, [(of_json, keys[at]) for at in others])
        for at, reply in zip(others, others_said):
            found[at] = None if isinstance(reply, redis.ResponseError) else reply
        return found


class _Members(States):
    """Sets, lists and sorted sets. Of a key with more members than the mapping takes, the image says so."""

    def __init__(self, mapping: Mapping, ask: Ask) -> None:
        self._mapping = mapping
        self._ask = ask

    def read(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[Image]:
        images: list[Image] = [None] * len(keys)
        small = []
        for at, count in enumerate(self.sizes(client, keys)):
            if count > self._mapping.members:
                images[at] = too_many(self._mapping, count)
            elif count:
                small.append(at)
        name, more = memberstates.READS[self._mapping.type]
        members = self._ask(client, [(name, keys[at], *more) for at in small])
        for at, reply in zip(small, members):
            is_there = bool(reply) and not isinstance(reply, redis.ResponseError)
            images[at] = memberstates.image_of(self._mapping, list(reply)) if is_there else None
        return images

    def there(self, host: Host, client: redis.Redis, keys: Sequence[bytes]) -> list[bool]:
        return [bool(count) for count in self.sizes(client, keys)]

    def sizes(self, client: redis.Redis, keys: Sequence[bytes]) -> list[int]:
        command = memberstates.COUNTS[self._mapping.type]
        counts = self._ask(client, [(command, key) for key in keys])
        return [0 if isinstance(each, redis.ResponseError) else int(each) for each in counts]


def _plainly(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the replies to commands, errors that say that a key is not here among them."""
    return _judged(replies(client, commands))


def _asking(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    asked = [each for command in commands for each in (("ASKING",), command)]
    return _plainly(client, asked)[1::2]


def _judged(found: list[Any]) -> list[Any]:
    for reply in found:
        if isinstance(reply, Exception) and not _means_not_here(reply):
            raise reply
    return found


def _means_not_here(error: Exception) -> bool:
    return isinstance(error, redis.ResponseError) and (
        memberstates.means_not_here(error) or any(text in str(error) for text in NO_DOCUMENT)
    )
