"""Dead letters a page at a time, the newest first: what is held of them does not grow with their number."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.letters.store import Letter
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards

#: How many are asked of a lane at once.
CHUNK = 100
#: How many are looked through for one page when a filter leaves most of them out.
SCAN_LIMIT = 20_000


@dataclass(frozen=True)
class Place:
    """Where one letter is: its stream, and its id there. Of two, the greater was written later."""

    milliseconds: int
    sequence: int
    stream: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what ``str`` has written. Raises ValueError."""
        entry_id, _, stream = text.partition(" ")
        milliseconds, _, sequence = entry_id.partition("-")
        if not (milliseconds.isdecimal() and sequence.isdecimal() and stream):
            raise ValueError(f"{text[:100]!r} is not the place of a dead letter")
        return cls(int(milliseconds), int(sequence), stream)

    def __str__(self) -> str:
        return f"{self.id} {self.stream}"

    @property
    def id(self) -> str:
        """The entry's id in its stream."""
        return f"{self.milliseconds}-{self.sequence}"

    @property
    def order(self) -> tuple[int, int, str]:
        """What places are sorted by."""
        return self.milliseconds, self.sequence, self.stream


@dataclass(frozen=True)
class Filter:
    """Which letters are shown; None leaves all."""

    deployment: str | None = None
    function: str | None = None

    def covers(self, letter: Letter) -> bool:
        """Whether a letter is one of these."""
        return self.deployment in (None, letter.deployment) and (
            self.function is None or self.function in letter.functions
        )


@dataclass(frozen=True)
class Page:
    """Letters, the newest first. ``older`` is where the next page starts; None: there are no more."""

    letters: Sequence[Letter]
    older: Place | None


@dataclass(frozen=True)
class _Stream:
    """One lane's letters, as a status document names them."""

    shard: Shard
    name: str
    deployment: str
    target: str

    def letter(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Letter:
        named = {name.decode(): value for name, value in fields.items()}
        return Letter(self.shard, self.name, self.deployment, self.target, entry_id.decode(), named)


def page(
    shards: Shards, statuses: Sequence[dict[str, Any]], chosen: Filter, before: Place | None, size: int
) -> Page:
    """Return up to ``size`` letters older than ``before``, of all shards together. Raises CommandError.

    ``statuses`` are documents of ``deploy.status.fetch``; a shard that has none there is left out. With a
    filter that leaves out nearly all letters a page may hold fewer, and still not be the last.
    """
    found: list[Letter] = []
    last: Place | None = None
    for looked, letter in enumerate(_newest_first(shards, statuses, chosen, before)):
        if len(found) == size or looked == SCAN_LIMIT:
            return Page(found, last)
        last = place(letter)
        if chosen.covers(letter):
            found.append(letter)
    return Page(found, None)


def find(shards: Shards, statuses: Sequence[dict[str, Any]], places: Iterable[Place]) -> list[Letter]:
    """Return those letters of ``places`` that are still there; only streams of letters are looked at."""
    streams = {each.name: each for each in _streams(shards, statuses)}
    found = []
    for wanted in places:
        stream = streams.get(wanted.stream)
        if stream is not None:
            entries = _range(shards, stream, "XRANGE", wanted.id, wanted.id)
            found += [stream.letter(entry_id, fields) for entry_id, fields in entries]
    return found


def place(letter: Letter) -> Place:
    """Return where a letter is."""
    milliseconds, _, sequence = letter.id.partition("-")
    return Place(int(milliseconds), int(sequence), letter.stream)


def _newest_first(
    shards: Shards, statuses: Sequence[dict[str, Any]], chosen: Filter, before: Place | None
) -> Iterator[Letter]:
    lanes = [
        _backwards(shards, stream, before)
        for stream in _streams(shards, statuses)
        if chosen.deployment in (None, stream.deployment)
    ]
    return heapq.merge(*lanes, key=lambda letter: place(letter).order, reverse=True)


def _streams(shards: Shards, statuses: Sequence[dict[str, Any]]) -> list[_Stream]:
    """Return each stream that holds letters, once, also while two shards tell of it."""
    at = {shard.address: shard for shard in shards.shards}
    found = {
        lane["dead_stream"]: _Stream(
            at[document["address"]], lane["dead_stream"], deployment["name"], target["name"]
        )
        for document in statuses
        if document["address"] in at
        for deployment in document["deployments"]
        for target in deployment["targets"]
        for lane in target["lanes"]
        if lane["dead_letters"]
    }
    return list(found.values())


def _backwards(shards: Shards, stream: _Stream, before: Place | None) -> Iterator[Letter]:
    end = "+" if before is None else before.id
    while True:
        entries = _range(shards, stream, "XREVRANGE", end, "-")
        for entry_id, fields in entries:
            letter = stream.letter(entry_id, fields)
            # Letters of other lanes may have the very id that the last page ended with.
            if before is None or place(letter).order < before.order:
                yield letter
        if len(entries) < CHUNK:
            return
        end = f"({entries[-1][0].decode()}"


def _range(shards: Shards, stream: _Stream, command: str, start: str, end: str) -> list[Any]:
    with errors_of(stream.shard.address):
        entries: Any = shards.on_key(stream.shard.client, command, stream.name, start, end, "COUNT", CHUNK)
    return list(entries)
