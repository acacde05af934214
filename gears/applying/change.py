"""A change as it stands in a lane (docs/design.md, "A change as a stream entry")."""

from __future__ import annotations

import re
from itertools import chain
from operator import itemgetter
from typing import Any, Iterator, NamedTuple, Sequence, Tuple

from connectors import Position

UPSERT, REMOVED, REPLACED = b"u", b"r", b"n"
DELETED, EXPIRED, EVICTED, FLUSHED = b"d", b"x", b"v", b"f"
TAKEN = b"t"
"""Gone by the operation ``~``: the row goes too, whatever the policies say."""
GONE = (DELETED, EXPIRED, EVICTED, TAKEN)
LEFT, CAME, WENT = MARKS = b"m", b"i", b"w"
"""No changes: a resharding took the key to another shard, or brought it from one; or it ended while its slot
was on its way, so that it may be made anew on another shard.
"""
UNREAD = b"!"
"""In no entry, made by the worker of a mark whose members it can't take; behind the colon stands why."""
REJECTED = b"q"
"""A write whose field ``#`` holds no operation: for the dead letters, the row does not change."""
EMPTIED = b"E"
"""In no entry, made by coalescing: as REMOVED, of a row that is there by then in any case."""
INTENTS = {b"U": UPSERT, b"R": REMOVED, b"D": DELETED}
"""Writes of waiting clients that are to be committed, and the operation that each is for SQL."""

_EPOCH = rb"(?:[0-9a-f]{1,15}|[0-7][0-9a-f]{15})"
"""Of more than 63 bits is none: no checkpoint could hold it, and its lane would stand still."""
_META = re.compile(rb"(?:[urndxvtfmiwq]" + _EPOCH + rb"\+?(?::.*)?|[URD]" + _EPOCH + rb":.*)\Z", re.DOTALL)

EntryId = Tuple[int, int]


def parsed_id(entry_id: str) -> EntryId:
    """Return the two numbers of an id in a stream, by which ids are in order."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


def goes_on(meta: bytes) -> bool:
    """Return whether a change with that meta belongs to the transaction of the entry before it."""
    return meta[:18].partition(b":")[0].endswith(b"+")


class Malformed(NamedTuple):
    """A stream entry that the module can't have written: somebody else did, or it is damaged."""

    entry_id: bytes
    pairs: list[bytes]
    reason: str

    @property
    def id(self) -> str:
        """The stream id."""
        return self.entry_id.decode("ascii")


class Change(NamedTuple):
    """One change, as its entry has it. ``fields`` and ``values`` are the image, side by side; both are empty
    when the key is gone. ``meta`` is the operation and the epoch, a plus if the change belongs to the
    transaction of the entry before it, and after a colon what follows the operation in the field ``#``, if
    the hash had one.
    """

    entry_id: bytes
    key: bytes
    meta: bytes
    fields: tuple[bytes, ...]
    values: list[bytes]

    @property
    def op(self) -> bytes:
        """The operation: one of the constants above."""
        return self.meta[:1]

    @property
    def epoch(self) -> int:
        """The epoch in which it was captured."""
        return int(self.meta[1:18].partition(b":")[0].rstrip(b"+"), 16)

    @property
    def goes_on(self) -> bool:
        """Whether it belongs to the transaction of the entry before it."""
        return goes_on(self.meta)

    @property
    def ticket(self) -> bytes:
        """What followed the operation in the field ``#``: the end of the acknowledgment stream's name."""
        return self.meta.partition(b":")[2]

    @property
    def node(self) -> bytes:
        """Of a mark: the id of the cluster's node that has the key from then on."""
        return self.values[0] if self.values else b""

    @property
    def position(self) -> Position:
        """Where the change stands. Computed, because only few of a batch are ever asked."""
        ms, _, seq = self.entry_id.partition(b"-")
        return Position(self.epoch, int(ms), int(seq))

    @property
    def ms(self) -> int:
        """When it was captured, in milliseconds since 1970, by the server's clock."""
        return int(self.entry_id.partition(b"-")[0])

    @property
    def id(self) -> str:
        """The stream id."""
        return self.entry_id.decode("ascii")

    @property
    def image(self) -> dict[bytes, bytes]:
        """The image as field → value."""
        return dict(zip(self.fields, self.values))


def is_applied(change: Change, upto: Position) -> bool:
    """Say whether SQL, which is at ``upto``, has a change.

    Ids and epochs both grow along a lane. Where an epoch is lower and the id is not, Redis was restored from
    a backup, and its epoch is of earlier days: SQL can't have it.
    """
    own = change.position
    return own <= upto and (own.ms, own.seq) <= (upto.ms, upto.seq)


class Changes(Sequence[Change]):
    """Changes as they were read, each of which becomes a Change when it is asked for: most never are.

    ``ids`` are the ids of their entries, ``pairs`` their pairs, flat.
    """

    __slots__ = ("_made", "_metas", "ids", "pairs")

    def __init__(self, ids: list[bytes], pairs: list[list[bytes]], metas: set[bytes] | None = None) -> None:
        self.ids = ids
        self.pairs = pairs
        self._metas = metas
        self._made: dict[int, Change] = {}

    @classmethod
    def of(cls, all_changes: Sequence[Change]) -> Changes:
        """Return changes as this class; those that are so stay."""
        if isinstance(all_changes, Changes):
            return all_changes
        pairs = [
            [b"k", each.key, b"m", each.meta, *chain.from_iterable(zip(each.fields, each.values))]
            for each in all_changes
        ]
        made = cls([each.entry_id for each in all_changes], pairs)
        made._made.update(enumerate(all_changes))
        return made

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Change]:
        return map(self.__getitem__, range(len(self.ids)))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Changes(self.ids[at], self.pairs[at])
        made = self._made.get(at)
        if made is None:
            if at < 0:
                return self[range(len(self.ids))[at]]
            pairs = self.pairs[at]
            made = Change(self.ids[at], pairs[1], pairs[3], tuple(pairs[4::2]), pairs[5::2])
            self._made[at] = made
        return made

    def extend(self, more: Changes) -> None:
        """Add changes behind these."""
        self._metas = self.metas() | more.metas()
        self.ids += more.ids
        self.pairs += more.pairs

    def keys(self) -> list[bytes]:
        """Return the key of each."""
        return list(map(_KEY, self.pairs))

    def metas(self) -> set[bytes]:
        """Return the metas that occur, of many changes few."""
        if self._metas is None:
            self._metas = set(map(_META_OF, self.pairs))
        return self._metas

    def pairs_at(self, places: Sequence[int]) -> Sequence[list[bytes]]:
        """Return the pairs of the changes at ``places``, none of which is there twice, in their order."""
        if len(places) == len(self.pairs):
            return self.pairs
        return [self.pairs[place] for place in places]


_KEY, _META_OF = itemgetter(1), itemgetter(3)


def metas_of(all_changes: Sequence[Change]) -> set[bytes]:
    """Return the metas that occur."""
    return all_changes.metas() if isinstance(all_changes, Changes) else {each.meta for each in all_changes}


def decode(entries: Sequence[tuple[bytes, list[bytes]]]) -> tuple[Changes, list[Malformed]]:
    """Read entries of a lane, each its id and its pairs, flat; those that are no changes come apart."""
    try:
        pairs = _flat(entries)
    except (ValueError, IndexError, TypeError):
        return _decode_each(entries)
    metas = set(map(_META_OF, pairs))
    if all(map(_META.match, metas)):
        return Changes([entry[0] for entry in entries], pairs, metas), []
    return _decode_each(entries)


def _flat(entries: Sequence[tuple[bytes, list[bytes]]]) -> list[list[bytes]]:
    """Return the pairs of entries that are sound, flat. Raises ValueError, IndexError or TypeError."""
    found = []
    label: bytes | None = None
    names: tuple[bytes, ...] = ()
    for _, pairs in entries:
        if len(pairs) != 2:
            if pairs[0] != b"k" or pairs[2] != b"m":
                raise ValueError("it does not start with k and m")
            found.append(pairs[: len(pairs) // 2 * 2] if pairs[3:] else [pairs[3]])
            continue
        if pairs[0] != label:
            label, names = pairs[0], read_label(pairs[0])
        packed = pairs[1]
        parts = packed.split(packed[:1])
        if len(parts) != len(names) + 3:
            raise ValueError("it has not as many values as fields")
        flat = [b"k", parts[2], b"m", parts[1]]
        flat += chain.from_iterable(zip(names, parts[3:]))
        found.append(flat)
    return found


def read_meta(pairs: Sequence[bytes] | None) -> bytes:
    """Return the meta of an entry, and nothing else of it; empty: it is no change."""
    if pairs and len(pairs) == 2:
        return b"".join(pairs[1].split(pairs[1][:1], 2)[1:2]) if pairs[0][:1] == b"c" and pairs[1] else b""
    return pairs[3] if pairs and len(pairs) > 3 and pairs[2] == b"m" else b""


def _decode_each(entries: Sequence[tuple[bytes, list[bytes]]]) -> tuple[Changes, list[Malformed]]:
    ids: list[bytes] = []
    good: list[list[bytes]] = []
    malformed: list[Malformed] = []
    for entry_id, pairs in entries:
        try:
            [flat] = _flat([(entry_id, pairs)])
            if not _META.match(flat[3]):
                raise ValueError("its operation or its epoch can't be read")
        except (ValueError, IndexError, TypeError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it does not start with k and m"
            reason = f"the entry of the lane is no change: {reason}"
            malformed.append(Malformed(entry_id, pairs or [], reason))
        else:
            ids.append(entry_id)
            good.append(flat)
    return Changes(ids, good), malformed


_NO_NAMES = "the names of its fields can't be read"


LABEL_BYTES = 1_000_000
"""How much of labels is remembered, about: whole hashes can have thousands of fields, each hash others."""


class Labels:
    """The names in labels, so that each is read once. All are forgotten when they have become too many."""

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[bytes, ...]] = {}
        self._bytes = 0

    def read(self, label: bytes) -> tuple[bytes, ...]:
        """Return the names in a label. Raises ValueError: it is none."""
        names = self.known.get(label)
        if names is None:
            names = _names_in(label)
            if self._bytes > LABEL_BYTES:
                self.known.clear()
                self._bytes = 0
            self.known[label] = names
            self._bytes += len(label)
        return names


_labels = Labels()


def read_label(label: bytes) -> tuple[bytes, ...]:
    """Return the names in a label, ``c<length>:<name><length>:<name>…``. Raises ValueError: it is none."""
    return _labels.read(label)


def _names_in(label: bytes) -> tuple[bytes, ...]:
    names = []
    at = 1
    while at < len(label):
        end = label.find(b":", at)
        if not label[at : max(end, at)].isdigit():
            raise ValueError(_NO_NAMES)
        at = end + 1 + int(label[at:end])
        names.append(label[end + 1 : at])
    if at != len(label) or label[:1] != b"c":
        raise ValueError(_NO_NAMES)
    return tuple(names)
