"""Dead letters over all shards: read, export, retry, drop (docs/design.md, "A dead letter")."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from deploy import status
from deploy.output import CommandError
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from gears.applying.deadletters import readable

PAGE = 1000


@dataclass(frozen=True)
class Letter:
    """One dead letter. ``id`` is its change's stream id, unique in one lane; ``fields`` are the entry's."""

    shard: Shard
    stream: str
    deployment: str
    target: str
    id: str
    fields: dict[str, bytes] = field(repr=False)

    @property
    def key(self) -> bytes:
        """The key of Redis that its change is of."""
        return self.fields.get("key", b"")

    @property
    def op(self) -> bytes:
        """The operation of its change."""
        return self.fields.get("op", b"")

    @property
    def functions(self) -> list[str]:
        """The names of the functions whose rows were refused."""
        return [str(name) for name in self._json("functions", [])]

    @property
    def transaction(self) -> str:
        """The id of the first change of the transaction that was refused whole; empty: there was none."""
        return self._text("transaction")

    def document(self) -> dict[str, Any]:
        """Return the letter for people and for JSON; what is not UTF-8 is ``{"base64": …}``."""
        return {
            "id": self.id,
            "key": readable(self.key),
            "reason": self._text("reason"),
            "op": self._text("op"),
            "image": self._json("image", {}),
            "deployment": self.deployment,
            "target": self.target,
            "functions": self.functions,
            "table": self._text("table"),
            "column": self._text("column"),
            "at": self._at(),
            "shard": self.shard.address,
        }

    def whole(self) -> dict[str, Any]:
        """Return ``document`` with the id and the epoch of its change, its transaction's id (None: it was
        refused by itself), and its own stream.
        """
        return {
            **self.document(),
            "change": self._text("change") or self.id,
            "epoch": int(self._text("epoch") or 0),
            "transaction": self.transaction or None,
            "stream": self.stream,
        }

    def _text(self, name: str) -> str:
        return self.fields.get(name, b"").decode("utf-8", "replace")

    def _json(self, name: str, missing: Any) -> Any:
        return json.loads(self.fields[name]) if self.fields.get(name) else missing

    def _at(self) -> str:
        # What the module writes itself has no time of its own: its id has.
        milliseconds = int(self._text("at") or self.id.partition("-")[0])
        at = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Choice:
    """Which letters are meant; what is empty or None leaves all. ``ids`` and ``keys`` are alternatives."""

    ids: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    deployment: str | None = None
    target: str | None = None

    def covers(self, letter: Letter) -> bool:
        """Whether a letter is one of those that are meant."""
        is_named = not (self.ids or self.keys) or letter.id in self.ids or named(letter.key) in self.keys
        return (
            is_named and self.deployment in (None, letter.deployment) and self.target in (None, letter.target)
        )


def read(shards: Shards, choice: Choice) -> list[Letter]:
    """Return the chosen letters of all shards, by shard, lane and id."""
    return list(each(shards, choice))


def each(shards: Shards, choice: Choice) -> Iterator[Letter]:
    """Yield the chosen letters in the order of ``read``, a page of a lane in memory at a time."""
    streams: set[str] = set()
    for shard, document in zip(shards.shards, status.fetch(shards)):
        for letter in _of_shard(shards, shard, document, streams):
            if choice.covers(letter):
                yield letter


def drop(shards: Shards, letters: Iterable[Letter]) -> int:
    """Delete letters for good; return how many there were to delete."""
    dropped = 0
    for letter in letters:
        with errors_of(letter.shard.address):
            dropped += int(shards.on_key(letter.shard.client, "XDEL", letter.stream, letter.id))
    return dropped


def _of_shard(shards: Shards, shard: Shard, document: dict[str, Any], streams: set[str]) -> Iterator[Letter]:
    """Yield the letters of one shard but for those of ``streams``, and add its own streams to these."""
    for deployment in document["deployments"]:
        for target in deployment["targets"]:
            for lane in target["lanes"]:
                # While slots move, two shards may tell of one stream.
                if lane["dead_letters"] and lane["dead_stream"] not in streams:
                    streams.add(lane["dead_stream"])
                    for entry_id, fields in _entries(shards, shard, lane["dead_stream"]):
                        yield Letter(
                            shard, lane["dead_stream"], deployment["name"], target["name"], entry_id, fields
                        )


def _entries(shards: Shards, shard: Shard, stream: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    start = "-"
    while True:
        with errors_of(shard.address):
            page: Any = shards.on_key(shard.client, "XRANGE", stream, start, "+", "COUNT", PAGE)
        for entry_id, fields in page:
            yield entry_id.decode(), {name.decode(): value for name, value in fields.items()}
        if len(page) < PAGE:
            return
        start = f"({page[-1][0].decode()}"


def named(key: bytes) -> str:
    """Return a key as it comes from the command line, where bytes that are not UTF-8 are escaped."""
    return key.decode("utf-8", "surrogateescape")


def require_single(letters: list[Letter], ids: tuple[str, ...]) -> None:
    """Raise CommandError when an id is nobody's, or that of letters of several lanes."""
    for wanted in ids:
        found = [letter for letter in letters if letter.id == wanted]
        if not found:
            raise CommandError(f"there is no dead letter {wanted}.", "see gearsync deadletters list.")
        if len(found) > 1:
            places = sorted({f"--deployment {each.deployment} --target {each.target}" for each in found})
            raise CommandError(
                f"{len(found)} dead letters have the id {wanted}.", f"say which: {', or '.join(places)}."
            )
