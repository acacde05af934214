"""The members that keys have now, for the marks of a batch (docs/design.md, "Kinds of keys").

A mark says that the members of a key have changed. What is read for it is not older than the mark, and may
be newer: then a later mark stands in the lane, and brings the same, or what is newer still. A key that is
gone by then has an entry in the lane that says so, unless the server was flushed. So are documents read that
the module could not, in a slot that is on its way here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, Union

import redis

from connectors import Position
from gears.applying import change as changes
from gears.applying.change import Change, Changes, decode
from gears.applying.conversion import Converter
from gears.applying.documents import DOCUMENT, DocumentConverter
from gears.applying.members import MembersConverter, too_many
from gears.declaring import kinds
from gears.declaring.mapping import Mapping
from gears.worker import lanes

AT_ONCE = 100
"""The most keys that are asked for in one go."""
MOST_MEMBERS = 100_000
"""About the most of one batch: what the worker holds of each takes more than half a kilobyte."""
PAGE = 1000
PAGES = 10
"""How far the lane is searched for why a key is gone."""

#: The command that counts the members of a key, and the one that reads them with what follows the key.
COUNTS = {kinds.SET: "SCARD", kinds.LIST: "LLEN", kinds.ZSET: "ZCARD"}
READS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    kinds.SET: ("SMEMBERS", ()),
    kinds.LIST: ("LRANGE", (0, -1)),
    kinds.ZSET: ("ZRANGE", (0, -1, "WITHSCORES")),
}
_WRITES = (changes.UPSERT, changes.REMOVED, changes.REPLACED)
_NOT_HERE = ("WRONGTYPE", "MOVED", "ASK")
JSON_TYPE = b"ReJSON-RL"
"""What TYPE says of a document that is no string; RedisJSON and Valkey's module both call it so."""
WITHOUT_IMAGE = 4
"""How many parts a change has that is only a key and a meta."""
_GONE_UNREAD = (
    "the key was gone before its {} read (evicted, expired, flushed, or deleted after an upgrade): its rows "
    "are those of an earlier state, which the mapping keeps"
)

Image = Optional["list[tuple[bytes, bytes]]"]
Taker = Union[MembersConverter, DocumentConverter]


class Wanted(NamedTuple):
    """A mark whose key is to be read, by the mapping of the first of the functions that take it."""

    at: int
    change: Change
    takers: Sequence[Taker]

    @property
    def converter(self) -> Taker:
        """The function that takes the most members of it."""
        return self.takers[0]

    @property
    def gone_unread(self) -> str:
        """Why its rows can't be brought up to date."""
        return _GONE_UNREAD.format("document was" if self.is_document else "members were")

    @property
    def is_document(self) -> bool:
        """Whether the key holds a document, and no members."""
        return self.converter.mapping.type == kinds.JSON


class Members:
    """Reads for one lane, on a connection of its own."""

    def __init__(self, url: str, stream: str) -> None:
        self._url = url
        self._stream = stream
        self._client: redis.Redis | None = None
        self._connection: Any = None
        # Both threads of a lane prepare batches.
        self._lock = threading.Lock()

    def fill(
        self,
        all_changes: Sequence[Change],
        converters: Sequence[Converter],
        converters_at: Callable[[Position], Sequence[Converter]] | None = None,
    ) -> Sequence[Change]:
        """Return the changes with an image of members in the last mark of each key. Raises RedisError.

        ``converters_at`` tells by what a change that follows in the lane will be applied; None: as these.
        """
        takers = [each for each in converters if isinstance(each, (MembersConverter, DocumentConverter))]
        if not any(isinstance(each, MembersConverter) for each in takers) and not _has_bare(all_changes):
            return all_changes
        wanted = _wanted(all_changes, takers)
        if not wanted:
            return all_changes
        with self._lock:
            return self._filled(all_changes, wanted, converters_at or (lambda at: converters))

    def _filled(
        self,
        all_changes: Sequence[Change],
        wanted: Sequence[Wanted],
        converters_at: Callable[[Position], Sequence[Converter]],
    ) -> list[Change]:
        filled = list(all_changes)
        absent: list[Wanted] = []
        for each, image in self._read(wanted):
            if isinstance(image, str):
                filled[each.at] = _unread(each.change, image)
            elif not image:
                absent.append(each)
            else:
                fields, values = zip(*image)
                filled[each.at] = each.change._replace(fields=fields, values=list(values))
        for each in self._unexplained(absent, all_changes, converters_at):
            filled[each.at] = _unread(each.change, each.gone_unread)
        return filled

    def portions(
        self, all_changes: Sequence[Change], converters: Sequence[Converter]
    ) -> Sequence[Sequence[Change]]:
        """Cut changes so that all members of the keys of one part are not too many. Raises RedisError."""
        takers = [each for each in converters if isinstance(each, MembersConverter)]
        wanted = _wanted(all_changes, takers) if takers else []
        if sum(each.converter.mapping.members for each in wanted) <= MOST_MEMBERS:
            return [all_changes]
        with self._lock:
            counts = self._counts(wanted)
        return _portions(all_changes, counts) if sum(counts.values()) > MOST_MEMBERS else [all_changes]

    def _counts(self, wanted: Sequence[Wanted]) -> dict[bytes, int]:
        """Return how many members are to be read of each key."""
        counts: dict[bytes, int] = {}
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            told = self._ask([_counting(each) for each in some])
            for each, count in zip(some, told):
                fits = count is not None and count <= each.converter.mapping.members
                counts[each.change.key] = count if fits else 0
        return counts

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._connection.disconnect()
            self._client.close()
        self._client = self._connection = None

    # -- Reading -----------------------------------------------------------------------------------------

    def _read(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Image | str]]:
        """Return what each key holds; a text says why it can't be taken."""
        found: list[tuple[Wanted, Image | str]] = []
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            found += self._read_documents([each for each in some if each.is_document])
            found += self._read_members([each for each in some if not each.is_document])
        return found

    def _read_documents(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Image | str]]:
        texts = self._ask([(each, ("GET", each.change.key)) for each in wanted])
        others = [at for at, text in enumerate(texts) if text is None]
        types = self._ask([(wanted[at], ("TYPE", wanted[at].change.key)) for at in others])
        others = [at for at, name in zip(others, types) if name == JSON_TYPE]
        told = self._ask([(wanted[at], ("JSON.GET", wanted[at].change.key)) for at in others])
        for at, text in zip(others, told):
            texts[at] = text
        return [(each, None if text is None else [(DOCUMENT, text)]) for each, text in zip(wanted, texts)]

    def _read_members(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Image | str]]:
        counts = self._ask(list(map(_counting, wanted)))
        found: list[tuple[Wanted, Image | str]] = []
        small = []
        for each, count in zip(wanted, counts):
            if count is not None and count > each.converter.mapping.members:
                found.append((each, too_many(each.converter.mapping, count)))
            elif count:
                small.append(each)
            else:
                found.append((each, None))
        commands = []
        for each in small:
            name, more = READS[each.converter.mapping.type]
            commands.append((each, (name, each.change.key, *more)))
        replies = self._ask(commands)
        return found + [
            (each, image_of(each.converter.mapping, reply)) for each, reply in zip(small, replies)
        ]

    def _ask(self, commands: Sequence[tuple[Wanted, tuple[Any, ...]]]) -> list[Any]:
        """Send commands in one go, each in its mapping's database; None: the key is not here, or another."""
        words: list[tuple[Any, ...]] = []
        kept: list[bool] = []
        now = 0
        for each, command in commands:
            if each.converter.mapping.db != now:
                now = each.converter.mapping.db
                words.append(("SELECT", now))
                kept.append(False)
            words.append(command)
            kept.append(True)
        if now:
            words.append(("SELECT", 0))
            kept.append(False)
        replies = [reply for reply, wanted in zip(self._replies(words), kept) if wanted]
        elsewhere = [at for at, reply in enumerate(replies) if isinstance(reply, redis.exceptions.MovedError)]
        if elsewhere:
            # Perhaps the key has come, and its slot is still on its way. A cluster has database 0 alone.
            told = self._replies([word for at in elsewhere for word in (("ASKING",), commands[at][1])])[1::2]
            for at, reply in zip(elsewhere, told):
                replies[at] = reply
        return _without_errors(replies)

    def _send(self, words: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies; None: the key is not here."""
        return _without_errors(self._replies(words))

    def _replies(self, words: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies, among them errors that say that a key is not here."""
        if not words:
            return []
        connection = self._connected()
        connection.send_packed_command(connection.pack_commands(words))
        replies: list[Any] = []
        failure: redis.ResponseError | None = None
        for _ in words:
            try:
                replies.append(connection.read_response())
            except redis.ResponseError as error:
                replies.append(error)
                failure = failure or (None if means_not_here(error) else error)
        if failure is not None:
            raise failure
        return replies

    def _connected(self) -> Any:
        if self._client is None:
            self._client = lanes.connect(self._url)
            self._connection = self._client.connection_pool.get_connection()
        return self._connection

    # -- Keys that are gone ------------------------------------------------------------------------------

    def _unexplained(
        self,
        gone: Sequence[Wanted],
        all_changes: Sequence[Change],
        converters_at: Callable[[Position], Sequence[Converter]],
    ) -> list[Wanted]:
        """Return those of keys that are gone of which what follows in the lane doesn't say what becomes of
        their rows. The lane is looked through once for all of them.
        """
        left = {each.change.key: each for each in gone}
        found: list[Wanted] = []

        def look(change: Change, at: float) -> None:
            known = left.get(change.key)
            told_of = list(left.values()) if change.op == changes.FLUSHED else [known] if known else []
            for each in told_of:
                told = _tells(change, each, converters_at(change.position)) if each.at < at else None
                if told is not None:
                    del left[each.change.key]
                    found.extend([] if told else [each])

        for at, change in enumerate(all_changes) if gone else ():
            look(change, at)
        last = all_changes[-1].entry_id
        for _ in range(PAGES):
            if not left:
                return found
            (page,) = self._send([("XRANGE", self._stream, b"(" + last, "+", "COUNT", PAGE)])
            for change in decode([(entry[0], entry[1]) for entry in page or ()])[0]:
                look(change, math.inf)
            if not page or len(page) < PAGE:
                break
            last = page[-1][0]
        return [*found, *left.values()]


def _without_errors(replies: Sequence[Any]) -> list[Any]:
    return [None if isinstance(reply, redis.ResponseError) else reply for reply in replies]


def _has_bare(all_changes: Sequence[Change]) -> bool:
    """Whether a change may be a mark, without making it: most are none."""
    if isinstance(all_changes, Changes):
        return any(len(pairs) == WITHOUT_IMAGE for pairs in all_changes.pairs)
    return any(not each.fields for each in all_changes)


def _counting(wanted: Wanted) -> tuple[Wanted, tuple[Any, ...]]:
    return wanted, (COUNTS[wanted.converter.mapping.type], wanted.change.key)


def _portions(all_changes: Sequence[Change], counts: dict[bytes, int]) -> Sequence[Sequence[Change]]:
    """Cut changes where the members of the keys before are as many as a batch takes."""
    parts: list[Sequence[Change]] = []
    start, room = 0, MOST_MEMBERS
    seen: set[bytes] = set()
    for at, key in enumerate(Changes.of(all_changes).keys()):
        count = 0 if key in seen else counts.get(key, 0)
        if count and count > room and room < MOST_MEMBERS:
            parts.append(all_changes[start:at])
            start, room = at, MOST_MEMBERS
            seen.clear()
        seen.add(key)
        room -= count
    return [*parts, all_changes[start:]]


def _wanted(all_changes: Sequence[Change], takers: Sequence[Taker]) -> list[Wanted]:
    """Return the last mark of each key, with who takes it: first who takes the most members."""
    last = {change.key: at for at, change in enumerate(all_changes) if change.op in _WRITES}
    wanted = []
    for key, at in last.items():
        # What has an image is of a key that is no mark's, or a document that the module could read.
        matching = [] if all_changes[at].fields else [each for each in takers if each.match(key) is not None]
        if matching:
            matching.sort(key=lambda each: -each.mapping.members)
            wanted.append(Wanted(at, all_changes[at], matching))
    return wanted


def _tells(change: Change, gone: Wanted, converters: Sequence[Converter]) -> bool | None:
    """Whether a later change, of a version that may be another one, explains that a key is gone; None: it is
    not about that.
    """
    op = change.op
    if op == changes.FLUSHED:
        clearing = {each.mapping.table for each in converters if each.mapping.on_flush == "delete"}
        return True if all(each.mapping.table in clearing for each in gone.takers) else None
    if change.key != gone.change.key or op in (changes.CAME, changes.WENT, changes.REJECTED):
        return None
    # Another shard reads for itself, and a later mark is read by itself.
    if op in changes.MARKS or all(_brings(converters, taker, change) for taker in gone.takers):
        return True
    return False if op in changes.GONE else None


def _brings(converters: Sequence[Converter], taker: Taker, change: Change) -> bool:
    """Whether a change of a key, by its own version, brings the rows that ``taker`` writes up to date."""
    table = taker.mapping.table
    heirs = [
        each for each in converters if each.mapping.table == table and each.match(change.key) is not None
    ]
    return bool(heirs) and not (change.op in changes.GONE and any(each.keeps(change.op) for each in heirs))


def _unread(change: Change, reason: str) -> Change:
    meta = changes.UNREAD + change.meta[1:].partition(b":")[0] + b":" + reason.encode()
    return change._replace(meta=meta, fields=(), values=[])


def image_of(mapping: Mapping, reply: Any) -> Image | str:
    """Return the members of a key as its image, of what ``READS`` replied; a text: they can't be taken."""
    if reply is None:
        return None
    if mapping.type == kinds.ZSET:
        pairs = list(zip(reply[::2], reply[1::2]))
    elif mapping.type == kinds.LIST:
        pairs = [(b"%d" % index, value) for index, value in enumerate(reply)]
    else:
        pairs = [(member, b"") for member in reply]
    return pairs if len(pairs) <= mapping.members else too_many(mapping, len(pairs))


def means_not_here(error: redis.ResponseError) -> bool:
    """Whether an error says that a key is on another shard, or of another type."""
    moved = isinstance(error, (redis.exceptions.MovedError, redis.exceptions.AskError))
    return moved or str(error).startswith(_NOT_HERE)
