"""Who is told what, and in which stream."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from gears.applying.acknowledgments import asked_for, of_changes, stream_of
from gears.applying.change import Change


def change(number: int, meta: bytes, key: bytes = b"person:1") -> Change:
    return Change(b"%d-0" % number, key, meta, (), [])


@pytest.mark.parametrize(
    ("key", "stream"),
    [
        (b"person:1", b"{person:1}t"),
        (b"{a}:1", b"{a}{{a}:1}t"),
        (b"x{a}y{b}", b"{a}{x{a}y{b}}t"),
        (b"{}x", b"{19354}{{}x}t"),
        (b"a}b", b"{20658}{a}b}t"),
        (b"a}b{c", b"{42981}{a}b{c}t"),
        (b"a{}b{c}", b"{9841}{a{}b{c}}t"),
        (b"}", b"{5305}{}}t"),
        (b"a{b", b"{a{b}t"),
        (b"\xff", b"{\xff}t"),
    ],
)
def test_the_name_of_the_stream(key: bytes, stream: bytes) -> None:
    assert stream_of(key, b"t") == stream
    assert key_slot(stream) == key_slot(key)


def test_only_those_who_ask_are_told() -> None:
    changes = [
        change(1, b"u1"),
        change(2, b"u1:a"),
        change(3, b"t1:b"),
        change(4, b"q1:!c"),
        change(5, b"q1:!"),
    ]
    asking = asked_for(changes)
    assert [each.id for each in asking] == ["2-0", "3-0", "4-0"]
    told = of_changes(asking, {"3-0": "no", "4-0": "what?"})
    assert [(each.stream, each.error) for each in told] == [
        (b"{person:1}a", ""),
        (b"{person:1}b", "no"),
        (b"{person:1}c", "what?"),
    ]


def test_the_entry_is_as_rgsyncs_users_read_it() -> None:
    done, failed = of_changes([change(1, b"u1:a"), change(2, b"u1:b")], {"2-0": "no"})
    assert done.commands() == [
        ["XADD", b"{person:1}a", "*", "status", "done"],
        ["EXPIRE", b"{person:1}a", 3600],
    ]
    assert failed.commands()[0][3:] == ["status", "failed", "error", "no"]
