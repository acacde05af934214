"""Dead letters: changes that are refused for good, with their reason (docs/design.md, "A dead letter")."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Tuple

from gears.applying.change import Change, Malformed
from gears.applying.commands import Commands

CHUNK = 500
"""The most letters that are sent at once, and looked at at once."""

EntryId = Tuple[int, int]


class Fault(NamedTuple):
    """Why one function's row of a change is refused; ``column`` may be empty."""

    function: str
    table: str
    column: str
    reason: str


class Letter(NamedTuple):
    """One dead letter: the id of its entry in the lane, whose functions refuse it, and all its fields."""

    id: str
    functions: frozenset[str]
    fields: dict[str, bytes]


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
    # Each byte that is no UTF-8 is half of a surrogate pair in JSON, so that two names never become one.
    image = {name.decode("utf-8", "surrogateescape"): value for name, value in change.image.items()}
    document = {
        "op": change.op.decode("latin-1"),
        "epoch": str(change.position.epoch),
        "image": json.dumps({name: readable(value) for name, value in image.items()}),
        "reason": "; ".join(dict.fromkeys(fault.reason for fault in faults)),
        "functions": json.dumps(functions),
        "table": ", ".join(dict.fromkeys(fault.table for fault in faults)),
        "column": ", ".join(dict.fromkeys(fault.column for fault in faults if fault.column)),
    }
    if transaction:
        document["transaction"] = transaction
    return _letter(change.id, change.key, frozenset(functions), document)


def of_malformed(entry: Malformed) -> Letter:
    """Return the letter of an entry that is no change; its image holds the raw pairs."""
    key = entry.pairs[1] if entry.pairs[:1] == [b"k"] and len(entry.pairs) > 1 else b""
    image = json.dumps({"pairs": [readable(each) for each in entry.pairs]})
    document = {"op": "", "epoch": "", "image": image, "reason": entry.reason}
    document.update(functions="[]", table="", column="")
    return _letter(entry.id, key, frozenset(), document)


def _letter(entry_id: str, key: bytes, functions: frozenset[str], document: dict[str, str]) -> Letter:
    document.update(change=entry_id, at=str(int(time.time() * 1000)))
    fields = {name: text.encode("utf-8", "backslashreplace") for name, text in document.items()}
    return Letter(entry_id, functions, {"key": key, **fields})


# -- Storing ---------------------------------------------------------------------------------------------


def store(redis: Commands, stream: str, letters: Sequence[Letter]) -> int:
    """Add letters, given in the order of their ids; one that is there already is not added again.

    A letter has the id of its change. Where a later one stands already (ids fall back after a failover), it
    gets the next id, and its field ``change`` tells. Returns how many are new; they are in Redis then.
    """
    if not letters:
        return 0
    last = _last_id(redis, stream)
    known = dict(_present(redis, stream, letters[0].id)) if last >= _parsed(letters[0].id) else {}
    added = 0
    for start in range(0, len(letters), CHUNK):
        commands: list[list[Any]] = []
        for letter in letters[start : start + CHUNK]:
            before = known.get(_identity(letter))
            if before is not None and letter.functions <= before[1]:
                continue
            last = max(_parsed(letter.id), (last[0], last[1] + 1))
            pairs = [part for pair in letter.fields.items() for part in pair]
            commands.append(["XADD", stream, f"{last[0]}-{last[1]}", *pairs])
            if before is None:
                added += 1
            else:
                # Another function refuses the same change: the new letter names both.
                commands.append(["XDEL", stream, before[0]])
        if commands:
            redis.transaction(commands)
    return added


def reasons(redis: Commands, stream: str, asked: Sequence[tuple[str, int]]) -> dict[str, str]:
    """Return why changes are dead letters, by id; ``asked`` has ids, in their order, and epochs."""
    wanted = {(entry_id.encode(), str(epoch).encode()) for entry_id, epoch in asked}
    return {
        identity[0].decode(): fields.get(b"reason", b"").decode()
        for identity, _, fields in _letters(redis, stream, asked[0][0])
        if identity in wanted
    }


def _parsed(entry_id: str) -> EntryId:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


def _identity(letter: Letter) -> tuple[bytes, bytes]:
    return letter.fields["change"], letter.fields["epoch"]


def _last_id(redis: Commands, stream: str) -> EntryId:
    if not redis.call("EXISTS", stream):
        return 0, 0
    described = redis.call("XINFO", "STREAM", stream)
    return _parsed(described[described.index(b"last-generated-id") + 1].decode())


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
