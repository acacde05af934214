"""The plain write: of a hash, of which certain fields are captured, all of them text. Nearly all writes are.

It runs on Redis' main thread, where each name that Python looks up and each text that Redis is given counts.
So all it needs are variables of a closure, and an entry has its fields as one text and their values as
another. Whatever is not plain is left to ``otherwise``, before anything is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Callable
from zlib import crc32

from gears.redisgears.api import execute
from gears.redisgears.group import Group
from gears.redisgears.names import OWN_KEYS, PACKED, SEPARATOR
from gears.redisgears.written import BUCKETS

LOOK_SECONDS = 0.001
"""How long it is believed which shard this is: no server is demoted, synchronised and promoted in that."""
EVENTS = frozenset(("hset", "hincrby", "hincrbyfloat"))

OnEvent = Callable[[Any], bool]


def is_possible(groups: Sequence[Group]) -> bool:
    """Whether writes can be plain: several groups could not be left to another way all at once."""
    if len(groups) != 1 or not groups[0].fields or groups[0].has_documents:
        return False
    return not any(SEPARATOR in field for field in groups[0].fields)


def way(
    group: Group,
    quiet: Sequence[bool],
    looked: Sequence[float],
    look: Callable[[], None],
    otherwise: OnEvent,
) -> OnEvent:
    """Return what captures plain writes, and leaves others to ``otherwise``.

    ``quiet``: whether nothing is captured now. ``looked``: when it was seen which shard this is, by ``look``.
    """
    fields = group.fields or ()
    covering, watched = group.covering, group.watched
    names = SEPARATOR.join(fields)
    separators = len(fields) - 1
    join, separator = SEPARATOR.join, SEPARATOR

    def on_event(record: Any) -> bool:
        key = record["key"]
        if quiet[0] or record["event"] not in EVENTS or type(key) is not str:
            return otherwise(record)
        name = key.encode()
        for covers in covering:
            if covers(name):
                break
        else:
            return otherwise(record)
        try:
            if not 0 <= monotonic() - looked[0] < LOOK_SECONDS:
                look()
            values = execute("HMGET", key, *fields)
            if None in values:
                return partly(record, key, name, values)
            text = join(values)
            if text.count(separator) != separators or name.startswith(OWN_KEYS):
                return otherwise(record)
            lane, meta = group.place
            added = execute("XADD", lane, "*", "k", key, PACKED, meta, names, text)
        except Exception:
            # Some value is no text; or Redis refuses, as it will again.
            return otherwise(record)
        if watched[0]:
            group.marks[crc32(name) % BUCKETS] = added
        group.captured += 1
        return False

    def partly(record: Any, key: str, name: bytes, values: list[Any]) -> bool:
        there = [each for each in zip(fields, values) if each[1] is not None]
        text = join([value for _, value in there])
        if not there or text.count(separator) != len(there) - 1 or name.startswith(OWN_KEYS):
            return otherwise(record)
        lane, meta = group.place
        some = join([field for field, _ in there])
        added = execute("XADD", lane, "*", "k", key, PACKED, meta, some, text)
        if watched[0]:
            group.marks[crc32(name) % BUCKETS] = added
        group.captured += 1
        return False

    return on_event
