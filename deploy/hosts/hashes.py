"""Hashes by the server's own commands, where there is no module that reads many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis


def images(
    client: redis.Redis, fields: Sequence[bytes] | None, keys: Sequence[bytes]
) -> list[list[bytes | None] | None]:
    """Return the values of ``fields`` of each key (None: all fields, as pairs, flat), or None: no hash."""
    # Only those that are there are read: a read of what is not could load its row.
    left = replies(client, [("PTTL", key) for key in keys])
    there = [at for at, reply in enumerate(left) if not isinstance(reply, Exception) and int(reply) != -2]
    words = ("HGETALL",) if fields is None else ("HMGET",)
    # Without a field it is enough that it is a hash.
    asked = fields if fields is None or fields else [b""]
    commands = [(*words, keys[at], *(asked or ())) for at in there]
    found: list[list[bytes | None] | None] = [None] * len(keys)
    for at, reply in zip(there, replies(client, commands)):
        if isinstance(reply, Exception):
            if "WRONGTYPE" not in str(reply):
                raise reply
            continue
        found[at] = _image(fields, reply)
    return found


def _image(fields: Sequence[bytes] | None, reply: Any) -> list[bytes | None]:
    if isinstance(reply, dict):
        return list(_flat(reply))
    return [] if fields is not None and not fields else list(reply)


def replies(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands in one go; return their replies, errors among them."""
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        found: list[Any] = pipe.execute(raise_on_error=False)
    return found


def _flat(pairs: dict[bytes, bytes]) -> Iterator[bytes]:
    for name, value in pairs.items():
        yield name
        yield value
