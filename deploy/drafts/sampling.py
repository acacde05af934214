"""Some of the hashes that Redis has: found by SCAN from a random place, in bounded time and memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from deploy.output import CommandError
from deploy.reaching.connections import same_server
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards

#: Seconds after which a sample is what was found until then.
SECONDS = 30.0
#: A hash with more fields is no row.
MOST_FIELDS = 512
#: Bytes of values after which a sample is large enough.
MOST_BYTES = 1 << 26
_AT_ONCE = 200
_SCAN = 1000
#: Keys of gearsync itself.
_OURS = b"gearsync:"


def database_of(url: str) -> int:
    """Return the number of the database that a URL names at its end, as redis://host/3 does; else 0."""
    parts = urlsplit(url)
    number = parts.path.strip("/")
    return int(number) if parts.scheme in ("redis", "rediss") and number.isdigit() else 0


def keys_of(client: redis.Redis, most: int, deadline: float) -> list[bytes]:
    """Return up to ``most`` keys of hashes, each once, from a random place on.

    ``deadline`` is the moment of time.monotonic() at which it ends with what there is.
    """
    found: dict[bytes, None] = {}
    cursor, is_second = random.getrandbits(40), False
    while len(found) < most and time.monotonic() < deadline:
        reply: Any = client.execute_command("SCAN", cursor, "COUNT", _SCAN, "TYPE", "hash")
        cursor = int(reply[0])
        found.update((bytes(key), None) for key in reply[1] if not key.startswith(_OURS))
        if cursor == 0:
            if is_second:
                break
            is_second = True
    return list(found)[:most]


def hashes_of(client: redis.Redis, keys: Sequence[bytes]) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yield the hashes of keys, some at a time; one that has gone, or has too many fields, is left out."""
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        counts = _asked(client, "HLEN", part)
        narrow = [
            key for key, count in zip(part, counts) if isinstance(count, int) and 0 < count <= MOST_FIELDS
        ]
        for key, reply in zip(narrow, _asked(client, "HGETALL", narrow)):
            # Before Redis 7 what passes a module is a list, whatever the protocol.
            fields = dict(zip(reply[::2], reply[1::2])) if isinstance(reply, list) else reply
            if isinstance(fields, dict) and fields:
                yield key, fields


def _asked(client: redis.Redis, command: str, keys: Iterable[bytes]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.execute_command(command, key)
        # A key may be of another type by now; its error is its answer.
        return list(pipe.execute(raise_on_error=False))


def sample(
    shards: Shards, db: int, most: int, show: Callable[[str], None]
) -> dict[bytes, dict[bytes, bytes]]:
    """Return up to ``most`` hashes of all shards. Raises CommandError when there is none."""
    deadline = time.monotonic() + SECONDS
    found: dict[bytes, dict[bytes, bytes]] = {}
    share = -(-most // len(shards.shards))
    for shard in shards.shards:
        show(f"Sampling the hashes of {shard.address}")
        with errors_of(shard.address), same_server(shard.client, db=db) as client:
            size = 0
            for key, fields in hashes_of(client, keys_of(client, share, deadline)):
                found[key] = fields
                size += sum(map(len, fields.values()))
                if size > MOST_BYTES // len(shards.shards) or time.monotonic() > deadline:
                    break
    if not found:
        raise CommandError(f"there are no hashes in database {db} of Redis to sample.")
    return found
