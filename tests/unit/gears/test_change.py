"""Reading stream entries, against the vectors that the module is held to as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import Position
from gears.applying.change import LABEL_BYTES, Change, Labels, decode, is_applied, read_meta

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())[
    "changes"
]
Entry = tuple[bytes, list[bytes]]


def entry(vector: dict[str, Any]) -> Entry:
    return vector["id"].encode(), [bytes.fromhex(each) for each in vector["pairs_hex"]]


def sound() -> Entry:
    return b"9-0", [b"k", b"person:9", b"m", b"u1", b"name", b"Ada"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["id"]))
def test_an_entry_is_what_the_vectors_say(vector: dict[str, Any]) -> None:
    changes, malformed = decode([entry(vector)])
    if vector.get("malformed"):
        assert not changes
        assert (malformed[0].id, malformed[0].pairs) == (vector["id"], entry(vector)[1])
        assert malformed[0].reason
        return
    assert not malformed
    [change] = changes
    assert (change.key.hex(), change.op.decode()) == (vector["key_hex"], vector["op"])
    assert [[name.hex(), value.hex()] for name, value in change.image.items()] == vector["image_hex"]
    ms, seq = vector["id"].split("-")
    assert change.position == Position(vector["epoch"], int(ms), int(seq))
    assert change.id == vector["id"]
    assert change.ticket.hex() == vector.get("ticket_hex", "")
    assert read_meta(entry(vector)[1]) == change.meta
    assert change.goes_on == vector.get("goes_on", False)


@pytest.mark.parametrize(
    ("epoch", "entry_id", "applied"),
    [
        (7, b"50-1", True),
        (7, b"50-2", True),
        (7, b"50-3", False),
        (8, b"50-1", False),  # after a failover ids may fall back
        (3, b"49-9", True),
        (3, b"50-3", False),  # Redis was restored from a backup, and writes since
    ],
)
def test_what_sql_has_is_told_by_epoch_and_id(epoch: int, entry_id: bytes, applied: bool) -> None:
    change = Change(entry_id, b"k", b"u%x" % epoch, (), [])
    assert is_applied(change, Position(7, 50, 2)) is applied


def test_one_malformed_entry_leaves_the_others() -> None:
    for vector in VECTORS:
        if vector.get("malformed"):
            changes, malformed = decode([sound(), entry(vector), sound()])
            assert [change.key for change in changes] == [b"person:9", b"person:9"]
            assert [each.id for each in malformed] == [vector["id"]]


@given(st.lists(st.lists(st.binary(max_size=6), max_size=8), max_size=6))
def test_no_entry_raises_and_none_is_lost(all_pairs: list[list[bytes]]) -> None:
    entries = [(b"%d-0" % at, [*pairs, b""][: len(pairs) // 2 * 2]) for at, pairs in enumerate(all_pairs)]
    changes, malformed = decode([sound(), *entries])
    assert all(isinstance(read_meta(pairs), bytes) for _, pairs in entries)
    assert {each.id for each in changes} | {each.id for each in malformed} == {
        "9-0",
        *(entry_id.decode() for entry_id, _ in entries),
    }
    assert all(change.position.epoch >= 0 for change in changes)


def test_labels_of_many_fields_do_not_fill_the_memory() -> None:
    labels = Labels()
    for number in range(100):
        names = tuple(b"%d-%d" % (number, at) for at in range(LABEL_BYTES // 400))
        label = b"c" + b"".join(b"%d:%s" % (len(name), name) for name in names)
        assert labels.read(label) == labels.read(label) == names
    assert sum(map(len, labels.known)) <= LABEL_BYTES + len(label)
