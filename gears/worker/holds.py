"""Functions that are paused alone, as the module tells of them, and the commands about them.

What a lane has of such a function waits in a stream beside it (docs/design.md, "Pausing").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from gears.worker.lanes import digest_and_life, fetch_lanes, hash_of

CHUNK = 500
"""The most changes that one command moves: Redis does nothing else meanwhile."""


class HoldsChanged(Exception):
    """Something is paused or resumed that was not when the lane's session began."""


class Held(NamedTuple):
    """What one lane holds back of one function. ``last``: the id of the last change that is in ``stream``."""

    function: str
    paused: bool
    lane: str
    stream: str
    dead_stream: str
    length: int
    last: tuple[int, int]


class Holds(NamedTuple):
    """The answer of GEARSYNC.HOLDS. ``number`` is another one whenever something else is held."""

    version: int
    number: int
    held: tuple[Held, ...]
    digest: str = ""
    """Of the payload; empty: the module is older than this worker."""
    life: str = ""
    """As in ``lanes.Lanes``."""

    def of_lane(self, stream: str) -> tuple[Held, ...]:
        """Return what one lane holds."""
        return tuple(each for each in self.held if each.lane == stream)


def fetch(client: redis.Redis, name: str) -> Holds:
    """Return what a deployment holds back; nothing, of a module that is older than this worker."""
    try:
        reply: Any = client.execute_command("GEARSYNC.HOLDS", name)
    except redis.ResponseError as error:
        if not str(error).lower().startswith("unknown command"):
            raise
        known = fetch_lanes(client, name)
        return Holds(known.version, 0, (), known.digest, known.life)
    return of_reply(reply)


def of_reply(reply: Any) -> Holds:
    """Return the answer of GEARSYNC.HOLDS as it came."""
    version, number, held, *more = reply
    return Holds(int(version), int(number), tuple(_held(*each) for each in held), *digest_and_life(more))


def _held(*words: Any) -> Held:
    function, state, lane, stream, dead, length, last = words
    ms, _, seq = last.partition(b"-")
    names = lane.decode(), stream.decode(), dead.decode()
    return Held(function.decode(), state == b"paused", *names, int(length), (int(ms), int(seq)))


def move(client: redis.Redis, held: Held, number: int, ids: Sequence[bytes]) -> None:
    """Copy changes of a lane to the stream that holds them; what was there before stays as it is.

    Raises HoldsChanged when something else is held by now.
    """
    for start in range(0, len(ids), CHUNK):
        words = held.lane, held.function, number, *ids[start : start + CHUNK]
        _command(client, "GEARSYNC.HOLD", *words)


def open_again(client: redis.Redis, lane: str, function: str) -> None:
    """Hold a function in a lane again, though nobody has paused it."""
    client.execute_command("GEARSYNC.HOLD", lane, function, "OPEN")


def end(client: redis.Redis, held: Held, number: int) -> None:
    """Have a function go on with its lane, unless something was held meanwhile."""
    _command(client, "GEARSYNC.UNHOLD", held.stream, number)


def _command(client: redis.Redis, *words: Any) -> None:
    try:
        client.execute_command(*words)
    except redis.ResponseError as error:
        if str(error).startswith("HOLDS"):
            raise HoldsChanged from error
        raise


def name_hash(function: str) -> str:
    """Return how the module writes a function's name at the end of a stream's."""
    return hash_of(function.encode())
