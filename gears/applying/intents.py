"""Intents: the writes of waiting clients as they stand in a lane, and the record that SQL keeps of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from connectors import RowOp
from gears.applying import change as changes
from gears.applying.change import Change
from gears.applying.conversion import Converter, RowFault

FOLLOWS = b"+"
"""Stands in place of the command in the entries of an intent after its first."""

LOST = b"!"
"""Before a command: the module makes its key although the slot is on its way to another shard."""

WORTH_COMPRESSING = 1024
"""Bytes of a record."""


class Intent(NamedTuple):
    """One write: an entry of the lane for each key of it. ``id`` is that of its last entry, by which the
    module knows it; ``command`` does it in Redis: the number of the database, and the command in the words of
    the protocol.
    """

    entries: Sequence[Change]
    id: str
    command: bytes


class Outcome(NamedTuple):
    """What became of an intent: ``reason`` says why it was refused; empty: it was committed."""

    id: str
    command: bytes
    reason: str


def key_set_by(command: bytes) -> bytes | None:
    """Return the key that the command of an intent makes if it is not there; None: it makes none."""
    head, _, rest = command.partition(b"$4\r\nHSET\r\n$")
    size, _, after = rest.partition(b"\r\n")
    return after[: int(size)] if head.count(b"\r\n") == 1 and size.isdigit() else None


def is_intent(change: Change) -> bool:
    """Whether an entry of a lane is a part of an intent."""
    return change.op in changes.INTENTS


def follows(meta: bytes) -> bool:
    """Whether an entry with that meta is a part of the intent that the entry before it is of."""
    return meta[:1] in changes.INTENTS and meta.partition(b":")[2] == FOLLOWS


def runs_of(all_changes: Sequence[Change]) -> Sequence[Sequence[Change]]:
    """Cut where intents and other changes take turns."""
    if all(meta[:1] in changes.INTENTS for meta in changes.metas_of(all_changes)):
        return [all_changes] if all_changes else []
    runs: list[list[Change]] = []
    for change in all_changes:
        if runs and is_intent(runs[-1][-1]) == is_intent(change):
            runs[-1].append(change)
        else:
            runs.append([change])
    return runs


def intents_of(entries: Sequence[Change]) -> list[Intent]:
    """Gather entries to intents. An entry that follows nothing lost its first one with a promotion."""
    found: list[Intent] = []
    for entry in entries:
        ticket = entry.ticket
        if ticket == FOLLOWS and found:
            first = found.pop()
            found.append(Intent([*first.entries, entry], entry.id, first.command))
        else:
            found.append(Intent([entry], entry.id, ticket))
    return found


def unit_of(intent: Intent, converters: Sequence[Converter]) -> list[RowOp]:
    """Return the rows of an intent. Raises RowFault when a value fits no column."""
    rows = []
    for entry in intent.entries:
        op = changes.INTENTS[entry.op]
        for converter in converters:
            parts = converter.match(entry.key)
            if parts is None or (op in changes.GONE and converter.keeps(op)):
                continue
            row = converter.row(entry, op, parts)
            if row is not None:
                rows.append(row)
    return rows


def refusal_of(key: bytes, error: RowFault | None, reason: str) -> str:
    """Return what the client is told: one line, without the value."""
    shown = key[:100].decode("utf-8", "backslashreplace")
    said = error.fault.reason if error is not None else reason
    return f"{shown} is not written: {said}".replace("\r", " ").replace("\n", " ")


def record_of(outcomes: Sequence[Outcome]) -> bytes:
    """Return the text that SQL keeps of one transaction."""
    said = [[each.id, each.command.decode("latin-1"), each.reason] for each in outcomes]
    text = json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")
    # Writes of one kind are much alike; a fifth of the bytes is what the database has to log. Of a few it
    # would take the client's time for nothing.
    return text if len(text) < WORTH_COMPRESSING else zlib.compress(text, 1)


def outcomes_of(record: bytes) -> list[Outcome]:
    """Return what ``record_of`` wrote."""
    text = record if record.startswith(b"[") else zlib.decompress(record)
    return [Outcome(each[0], each[1].encode("latin-1"), each[2]) for each in json.loads(text)]


def settled(intents: Sequence[Intent], reasons: Mapping[int, str]) -> list[Outcome]:
    """Return the outcomes of intents, of which those at the places in ``reasons`` were refused."""
    return [
        Outcome(intent.id, b"" if place in reasons else intent.command, reasons.get(place, ""))
        for place, intent in enumerate(intents)
    ]
