"""The plain write: of a hash, of which certain fields are captured, all of them text. Nearly all writes are.

It runs on Redis' main thread, where each name that Python looks up and each text that Redis is given counts.
So all it needs are variables of a closure, and an entry is one pair, as the module writes it
(docs/design.md, "A change as a stream entry"). Whatever is not plain is left to ``otherwise``, before
anything is done.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from time import monotonic
from typing import Any, Callable
from zlib import crc32

from gears.redisgears.api import execute
from gears.redisgears.group import Group
from gears.redisgears.names import OWN_KEYS, SEPARATOR
from gears.redisgears.written import BUCKETS

EVENTS = frozenset(("hset", "hincrby", "hincrbyfloat"))

OnEvent = Callable[[Any], bool]


def is_possible(groups: Sequence[Group]) -> bool:
    """Whether writes can be plain: several groups could not be left to another way all at once."""
    return len(groups) == 1 and bool(groups[0].fields) and not groups[0].has_documents


def way(
    group: Group,
    quiet: Sequence[bool],
    fresh_until: Sequence[float],
    look: Callable[[], None],
    otherwise: OnEvent,
) -> OnEvent:
    """Return what captures plain writes, and leaves others to ``otherwise``.

    ``quiet``: whether nothing is captured now. ``fresh_until``: until when it is believed which shard this is
    (``look`` sees to that), by the clock that only grows.
    """
    fields = group.fields or ()
    covering, watched, place, counted = group.covering_text, group.watched, group.place, group.counted
    whole = label_of(fields)
    # Before the meta, the key, and each value.
    separators = 2 + len(fields)
    # Found in fewer steps than the names of a module.
    run, now, events, text_type = execute, monotonic, EVENTS, str
    join, separator, own = SEPARATOR.join, SEPARATOR, OWN_KEYS.decode() if group.may_cover_own else None

    def on_event(record: Any) -> bool:
        key = record["key"]
        if quiet[0] or record["event"] not in events or key.__class__ is not text_type:
            return otherwise(record)
        for covers in covering:
            if covers(key):
                break
        else:
            return otherwise(record)
        try:
            if now() >= fresh_until[0]:
                look()
            lane, meta = place
            values = run("HMGET", key, *fields)
            try:
                text = join([meta, key, *values])
            except TypeError:
                return partly(record, key, values)
            if text.count(separator) != separators or (own is not None and key.startswith(own)):
                return otherwise(record)
            added = run("XADD", lane, "*", whole, text)
        except Exception:
            # Some value is no text; or Redis refuses, as it will again.
            return otherwise(record)
        if watched[0]:
            group.marks[crc32(key.encode()) % BUCKETS] = added
        counted[0] += 1
        return False

    def partly(record: Any, key: str, values: list[Any]) -> bool:
        there = [each for each in zip(fields, values) if each[1] is not None]
        lane, meta = place
        text = join([meta, key, *[value for _, value in there]])
        if not there or text.count(separator) != 2 + len(there) or (own is not None and key.startswith(own)):
            return otherwise(record)
        added = run("XADD", lane, "*", label_of(tuple([field for field, _ in there])), text)
        if watched[0]:
            group.marks[crc32(key.encode()) % BUCKETS] = added
        counted[0] += 1
        return False

    return on_event


@functools.lru_cache(maxsize=1000)
def label_of(fields: tuple[str, ...]) -> str:
    """Return the label of an entry with these fields."""
    return "c" + "".join([f"{len(field.encode())}:{field}" for field in fields])
