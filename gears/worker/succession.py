"""Which lanes come first where those of several numbers have changes (docs/design.md, "Earlier versions").

An upgrade that changes how many lanes there are gives most keys another lane. What waits in the old one comes
first, also where a later upgrade goes back to it: then its first part is older than what others have, and
what follows is newer. The marks of earlier versions tell where the one ends.
"""

from __future__ import annotations

from typing import NamedTuple

import redis

from gears.applying.change import Change, EntryId, parsed_id
from gears.worker import lanes
from gears.worker.lanes import Lane

HEAD: EntryId = (0, 0)
END: EntryId = ((1 << 64) - 1, (1 << 64) - 1)


class Mark(NamedTuple):
    """A lane up to and with an id."""

    stream: str
    upto: EntryId

    def is_open(self, client: redis.Redis) -> bool:
        """Whether some of it is not in SQL yet. Raises RedisError."""
        page = lanes.RedisCommands(client).call("XRANGE", self.stream, "-", "+", "COUNT", 1)
        return bool(page) and parsed_id(page[0][0].decode()) <= self.upto


class Turn(NamedTuple):
    """A lane is applied up to and with ``upto``; what follows waits until all of ``first`` is in SQL."""

    upto: EntryId
    first: tuple[Mark, ...]

    def covers(self, change: Change) -> bool:
        """Whether a change of the lane may be applied."""
        return parsed_id(change.id) <= self.upto

    def is_over(self, client: redis.Redis) -> bool:
        """Whether what follows may be applied. Raises RedisError."""
        return not any(mark.is_open(client) for mark in self.first)


def turn_of(client: redis.Redis, deployment: str, lane: Lane) -> Turn | None:
    """Return how far a lane may be applied by now; None: all of it. Raises RedisError."""
    known = lanes.fetch_lanes(client, deployment).lanes
    # Those of one number have no key in common. Of another shard's no versions are known here: marks of
    # keys and lanes tell what comes first there.
    others = [
        each
        for each in known
        if each.target == lane.target and each.total != lane.total and not each.adopted and not lane.adopted
    ]
    if not others:
        return None
    turns = []
    versions = lanes.fetch_versions(client, deployment)
    for _, _, found in versions:
        marks = {stream.decode(): (int(ms), int(seq)) for stream, ms, seq in found}
        first = tuple(Mark(each.stream, marks[each.stream]) for each in others if each.stream in marks)
        if first:
            turns.append(Turn(marks.get(lane.stream, HEAD), first))
    if not versions and not lane.retired:
        # A module that keeps none. Of one that does, a retired lane without a mark has no changes any more,
        # but perhaps the epoch that is stamped into it.
        turns.append(Turn(HEAD, tuple(Mark(each.stream, END) for each in others if each.retired)))
    # A lane that is retired and empty stays as long as it has dead letters.
    return next((turn for turn in turns if not turn.is_over(client)), None)
