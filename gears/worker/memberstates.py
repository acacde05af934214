"""The members that keys have now, for the marks of a batch (docs/design.md, "Kinds of keys").

A mark says that the members of a key have changed. What is read for it is not older than the mark, and may
be newer: then a later mark stands in the lane, and brings the same, or what is newer still. A key that is
gone by then has an entry in the lane that says so, unless the server was flushed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import redis

from gears.applying import change as changes
from gears.applying.change import Change, decode
from gears.applying.conversion import Converter
from gears.applying.members import MembersConverter, with_members
from gears.declaring import kinds
from gears.declaring.mapping import Mapping
from gears.worker import lanes

AT_ONCE = 100
"""The most keys that are asked for in one go."""
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
_GONE_UNREAD = (
    "the key was gone before its members were read (evicted, expired, or flushed): its rows are those of an "
    "earlier state, which the mapping keeps"
)

Image = Optional["list[tuple[bytes, bytes]]"]


class Wanted(NamedTuple):
    """A mark whose key is to be read, by the mapping of a function that takes it."""

    at: int
    change: Change
    converter: MembersConverter


class Members:
    """Reads for one lane, on a connection of its own."""

    def __init__(self, url: str, stream: str) -> None:
        self._url = url
        self._stream = stream
        self._client: redis.Redis | None = None
        self._connection: Any = None
        # Both threads of a lane prepare batches.
        self._lock = threading.Lock()

    def fill(self, all_changes: Sequence[Change], converters: Sequence[Converter]) -> Sequence[Change]:
        """Return the changes with an image of members in the last mark of each key. Raises RedisError."""
        takers = with_members(converters)
        if not takers:
            return all_changes
        with self._lock:
            return self._filled(all_changes, takers)

    def _filled(self, all_changes: Sequence[Change], takers: Sequence[MembersConverter]) -> list[Change]:
        filled = list(all_changes)
        absent: list[Wanted] = []
        for each, image in self._read(_wanted(all_changes, takers)):
            if isinstance(image, str):
                filled[each.at] = _unread(each.change, image)
            elif not image:
                absent.append(each)
            else:
                fields, values = zip(*image)
                filled[each.at] = each.change._replace(fields=fields, values=list(values))
        for each in absent:
            if not self._is_explained(each, all_changes):
                filled[each.at] = _unread(each.change, _GONE_UNREAD)
        return filled

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
            found += self._read_some(wanted[start : start + AT_ONCE])
        return found

    def _read_some(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Image | str]]:
        counts = self._ask(
            [(each, (COUNTS[each.converter.mapping.type], each.change.key)) for each in wanted]
        )
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
        return [reply for reply, wanted in zip(self._send(words), kept) if wanted]

    def _send(self, words: Sequence[tuple[Any, ...]]) -> list[Any]:
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
                replies.append(None)
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

    def _is_explained(self, gone: Wanted, all_changes: Sequence[Change]) -> bool:
        """Whether what follows in the lane says what becomes of the rows of a key that is gone."""
        for change in all_changes[gone.at + 1 :]:
            told = _tells(change, gone)
            if told is not None:
                return told
        last = all_changes[-1].entry_id
        for _ in range(PAGES):
            (page,) = self._send([("XRANGE", self._stream, b"(" + last, "+", "COUNT", PAGE)])
            for change in decode([(entry[0], entry[1]) for entry in page or ()])[0]:
                told = _tells(change, gone)
                if told is not None:
                    return told
            if not page or len(page) < PAGE:
                return False
            last = page[-1][0]
        return False


def _wanted(all_changes: Sequence[Change], takers: Sequence[MembersConverter]) -> list[Wanted]:
    """Return the last mark of each key, with the mapping that takes the most members of it."""
    last = {change.key: at for at, change in enumerate(all_changes) if change.op in _WRITES}
    wanted = []
    for key, at in last.items():
        matching = [each for each in takers if each.match(key) is not None]
        if matching:
            converter = max(matching, key=lambda each: each.mapping.members)
            wanted.append(Wanted(at, all_changes[at], converter))
    return wanted


def _tells(change: Change, gone: Wanted) -> bool | None:
    """Whether a later change explains that a key is gone; None: it is not about that."""
    mapping, op = gone.converter.mapping, change.op
    if op == changes.FLUSHED:
        return True if mapping.on_flush == "delete" else None
    if change.key != gone.change.key or op in (changes.CAME, changes.WENT, changes.REJECTED):
        return None
    # A later mark is read by itself, and another shard reads for itself.
    return not (op in changes.GONE and gone.converter.keeps(op))


def _unread(change: Change, reason: str) -> Change:
    meta = changes.UNREAD + change.meta[1:].partition(b":")[0] + b":" + reason.encode()
    return change._replace(meta=meta, fields=(), values=[])


def too_many(mapping: Mapping, count: int) -> str:
    """Say that a key has more members than a mapping takes."""
    return f"the {mapping.type} has {count} members, and members={mapping.members} is the most that are taken"


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
