"""Dead letters: changes that are refused for good, with their reason (docs/design.md, "A dead letter")."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gears.applying.change import Change, EntryId, Malformed, parsed_id
from gears.applying.commands import Commands

CHUNK = 500
"""The most letters that are sent at once, and looked at at once."""
SURE_BYTES = 500_000
"""What every Redis takes, however it is configured."""
LEFT_OUT = "bytes"
"""Stands in an image for a value that is too large for a letter, before its size."""


class Fault(NamedTuple):
    """Why one function's row of a change is refused; ``column`` may be empty."""

    function: str
    table: str
    column: str
    reason: str


class Letter(NamedTuple):
    """One dead letter: the id of its entry in the lane, whose functions refuse it, and all its fields.

    ``entry``: the id that it had in Redis, of a letter that may have been there before; else empty.
    """

    id: str
    functions: frozenset[str]
    fields: dict[str, bytes]
    entry: str = ""


class Stored(NamedTuple):
    """How many letters are new, and the id that each has in Redis."""

    added: int
    entries: list[str]


def readable(value: bytes) -> Any:
    """Return ``value`` as JSON can hold it: text when it is UTF-8, else ``{"base64": …}``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def of_change(change: Change, faults: Sequence[Fault], transaction: str = "") -> Letter:
    """Return the letter of a change and all that is wrong with it (at least one fault).

    ``transaction``: the id of the first change of a transaction that is refused whole.
    """
    functions = list(dict.fromkeys(fault.function for fault in faults))
    document = {
        "op": change.op.decode("latin-1"),
        "epoch": str(change.position.epoch),
        "image": _image(change),
        "reason": "; ".join(dict.fromkeys(fault.reason for fault in faults)),
        "functions": json.dumps(functions),
        "table": ", ".join(dict.fromkeys(fault.table for fault in faults)),
        "column": ", ".join(dict.fromkeys(fault.column for fault in faults if fault.column)),
    }
    if transaction:
        document["transaction"] = transaction
    return _letter(change.id, change.key, frozenset(functions), document)


def again(change: Change, texts: dict[str, str], entry: str) -> Letter:
    """Return a letter anew, of its change and the fields that this does not tell; it had the id ``entry``."""
    functions = frozenset(json.loads(texts["functions"]))
    document = {**texts, "epoch": str(change.position.epoch), "image": _image(change)}
    return _letter(change.id, change.key, functions, document)._replace(entry=entry)


def _image(change: Change) -> str:
    # Each byte that is no UTF-8 is half of a surrogate pair in JSON, so that two names never become one.
    image = {name.decode("utf-8", "surrogateescape"): value for name, value in change.image.items()}
    return json.dumps({name: readable(value) for name, value in image.items()})


def of_malformed(entry: Malformed) -> Letter:
    """Return the letter of an entry that is no change; its image holds the raw pairs."""
    key = entry.pairs[1] if entry.pairs[:1] == [b"k"] and len(entry.pairs) > 1 else b""
    image = json.dumps({"pairs": [readable(each) for each in entry.pairs]})
    document = {"op": "", "epoch": "", "image": image, "reason": entry.reason}
    document.update(functions="[]", table="", column="")
    return _letter(entry.id, key, frozenset(), document)


def _letter(entry_id: str, key: bytes, functions: frozenset[str], document: dict[str, str]) -> Letter:
    document["change"] = entry_id
    document.setdefault("at", str(int(time.time() * 1000)))
    fields = {name: text.encode("utf-8", "backslashreplace") for name, text in document.items()}
    return Letter(entry_id, functions, {"key": key, **fields})


# -- Storing ---------------------------------------------------------------------------------------------


def store(redis: Commands, stream: str, letters: Sequence[Letter]) -> Stored:
    """Add letters, given in the order of their ids; one that is there already is not added again.

    A letter has the id of its change. Where a later one stands already (ids fall back after a failover), it
    gets the next id, and its field ``change`` tells. One that has been there before, and was deleted, stays
    deleted. They are in Redis then.
    """
    if not letters:
        return Stored(0, [])
    letters, most = _fitting(redis, letters)
    last, deleted = _ends(redis, stream)
    known = dict(_present(redis, stream, letters[0].id)) if last >= parsed_id(letters[0].id) else {}
    added = 0
    entries: list[str] = []
    for part in _parts(letters, most):
        commands: list[list[Any]] = []
        for letter in part:
            before = known.get(_identity(letter))
            if before is not None and letter.functions <= before[1]:
                entries.append(before[0].decode())
                continue
            if before is None and letter.entry and parsed_id(letter.entry) <= deleted:
                entries.append(letter.entry)
                continue
            last = max(parsed_id(letter.id), (last[0], last[1] + 1))
            entries.append(f"{last[0]}-{last[1]}")
            fields = letter.fields if before is None else _with(letter.fields, redis, stream, before[0])
            pairs = [part for pair in fields.items() for part in pair]
            commands.append(["XADD", stream, entries[-1], *pairs])
            if before is None:
                added += 1
            else:
                # Another function refuses the same change: the new letter names both.
                commands.append(["XDEL", stream, before[0]])
        if commands:
            redis.transaction(commands)
    return Stored(added, entries)


def _fitting(redis: Commands, letters: Sequence[Letter]) -> tuple[Sequence[Letter], int]:
    """Return letters that Redis takes, and how many bytes of them it takes at once."""
    if sum(map(_size, letters)) <= SURE_BYTES:
        return letters, SURE_BYTES
    most = redis.most_bytes()
    return [each if _size(each) <= most else _shortened(each, most) for each in letters], most


def _size(letter: Letter) -> int:
    return sum(map(len, letter.fields.values()))


def _shortened(letter: Letter, most: int) -> Letter:
    """Leave the largest values out of the image until it fits: a retry takes the key as it is then."""
    image = json.loads(letter.fields["image"])
    room = most - _size(letter)
    sizes = {name: len(json.dumps(value)) for name, value in image.items()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if room >= 0:
            break
        image[name] = {LEFT_OUT: _bytes_in(image[name])}
        room += sizes[name] - len(json.dumps(image[name]))
    text = json.dumps(image if room >= 0 else {}).encode()
    return letter._replace(fields={**letter.fields, "image": text})


def _bytes_in(value: Any) -> int:
    """Return how large a value of an image is: ``readable`` has made it, or a list of such."""
    if isinstance(value, list):
        return sum(map(_bytes_in, value))
    return len(base64.b64decode(value["base64"])) if isinstance(value, dict) else len(value.encode())


def _parts(letters: Sequence[Letter], most: int) -> Iterator[Sequence[Letter]]:
    """Cut letters to what is sent at once."""
    part: list[Letter] = []
    room = most
    for letter in letters:
        if part and (len(part) == CHUNK or _size(letter) > room):
            yield part
            part, room = [], most
        part.append(letter)
        room -= _size(letter)
    yield part


def _with(fields: dict[str, bytes], redis: Commands, stream: str, entry: bytes) -> dict[str, bytes]:
    """Return the fields of a letter with what another one says of the same change."""
    [(_, pairs)] = redis.call("XRANGE", stream, entry.decode(), "+", "COUNT", 1)
    other = {name.decode(): value for name, value in zip(pairs[::2], pairs[1::2])}
    functions = [*json.loads(other.get("functions", b"[]")), *json.loads(fields["functions"])]
    both = {**fields, "functions": json.dumps(list(dict.fromkeys(functions))).encode()}
    for name, between in (("reason", b"; "), ("table", b", "), ("column", b", ")):
        parts = [*other.get(name, b"").split(between), *fields[name].split(between)]
        both[name] = between.join(dict.fromkeys(filter(None, parts)))
    return both


def reasons(redis: Commands, stream: str, asked: Sequence[tuple[str, int]]) -> dict[str, str]:
    """Return why changes are dead letters, by id; ``asked`` has ids, in their order, and epochs."""
    wanted = {(entry_id.encode(), str(epoch).encode()) for entry_id, epoch in asked}
    return {
        identity[0].decode(): fields.get(b"reason", b"").decode()
        for identity, _, fields in _letters(redis, stream, asked[0][0])
        if identity in wanted
    }


def _identity(letter: Letter) -> tuple[bytes, bytes]:
    return letter.fields["change"], letter.fields["epoch"]


def _ends(redis: Commands, stream: str) -> tuple[EntryId, EntryId]:
    """Return the last id that a letter ever got, and the last of those up to which one that is not there was
    there and is deleted.
    """
    if not redis.call("EXISTS", stream):
        return (0, 0), (0, 0)
    described = redis.call("XINFO", "STREAM", stream)
    names = described[::2]
    last = parsed_id(described[names.index(b"last-generated-id") * 2 + 1].decode())
    if b"max-deleted-entry-id" not in names:
        # Before Redis 7.0. The module's own letters, of changes over 1 GiB, may have come in between.
        return last, last
    return last, parsed_id(described[names.index(b"max-deleted-entry-id") * 2 + 1].decode())


def _present(
    redis: Commands, stream: str, first: str
) -> Iterator[tuple[tuple[bytes, bytes], tuple[bytes, frozenset[str]]]]:
    """Yield what letters of the change ``first`` and later ones there are: who they are → id, functions."""
    for identity, entry_id, fields in _letters(redis, stream, first):
        yield identity, (entry_id, frozenset(json.loads(fields.get(b"functions", b"[]"))))


def _letters(
    redis: Commands, stream: str, first: str
) -> Iterator[tuple[tuple[bytes, bytes], bytes, dict[bytes, bytes]]]:
    start = first
    while True:
        page = redis.call("XRANGE", stream, start, "+", "COUNT", CHUNK)
        for entry_id, pairs in page:
            fields = dict(zip(pairs[::2], pairs[1::2]))
            yield (fields.get(b"change", entry_id), fields.get(b"epoch", b"")), entry_id, fields
        if len(page) < CHUNK:
            return
        start = f"({page[-1][0].decode()}"
