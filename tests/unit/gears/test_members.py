"""From marks of changed members, and of documents, to rows, with a Redis that is a dict and no database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import redis
import sqlalchemy as sa

from connectors import Connector
from connectors.tables import Column, Table
from connectors.values import types
from gears.applying.change import Change
from gears.applying.conversion import Converter
from gears.applying.converters import converter_for
from gears.applying.pipeline import Batch
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from gears.worker import memberstates
from gears.worker.memberstates import Members
from tests.unit.gears.batches import _ids

COLUMNS = {
    "set": {"member": "tag"},
    "list": {"index": "place", "value": "tag"},
    "zset": {"member": "tag", "score": "points"},
    "json": {"$.tag": "tag"},
}
TABLES = {"set": ("tag", "id"), "list": ("id", "place"), "zset": ("id", "tag"), "json": ("id",)}


class Tables:
    def table(self, name: str) -> Table:
        columns = {
            "id": Column("id", sa.Integer(), "INTEGER", types.integer(0, 99), nullable=False),
            "tag": Column("tag", sa.String(5), "VARCHAR(5)", types.text(5), nullable=False),
            "place": Column("place", sa.Integer(), "INTEGER", types.integer(0, 99), nullable=False),
            "points": Column("points", sa.Float(), "REAL", types.real(infinity=True)),
        }
        return Table(name, columns, TABLES[name], [])


def converter(kind: str = "set", **options: Any) -> Converter:
    wanted = {"keys": "k:{id}", "table": kind, "columns": COLUMNS[kind], "type": kind, **options}
    mapping, problems = build(wanted, False)
    assert mapping is not None, problems
    return converter_for(Function(kind, mapping, "reporting"), None, cast("Connector", Tables()))


class Redis(Members):
    """Answers as a server that holds ``keys``, of which those in ``coming`` are in slots on their way to it;
    ``later`` stands in the lane behind the batch.
    """

    def __init__(
        self, keys: dict[bytes, Any], later: Sequence[Change] = (), coming: Sequence[bytes] = ()
    ) -> None:
        super().__init__("redis://unused", "lane")
        self.keys = keys
        self.later = later
        self.coming = coming
        self.asked: list[tuple[Any, ...]] = []

    def _replies(self, words: Sequence[tuple[Any, ...]]) -> list[Any]:
        before = [("",), *words]
        self.asked += words
        return [self._reply(*each, asking=before[at] == ("ASKING",)) for at, each in enumerate(words)]

    def _reply(self, name: str, *arguments: Any, asking: bool) -> Any:
        if name == "ASKING":
            return b"OK"
        if name == "XRANGE":
            entries = [(each.entry_id, [b"k", each.key, b"m", each.meta]) for each in self.later]
            return [each for each in entries if each[0] > arguments[1][1:]]
        if name == "SELECT":
            return b"OK"
        held = self.keys.get(arguments[0])
        if arguments[0] in self.coming and not asking:
            return redis.exceptions.MovedError("1 127.0.0.1:1")
        if name in ("TYPE", "GET", "JSON.GET"):
            return DOCUMENTS[name](held)
        if held is None:
            return None
        return len(held) // (2 if name == "ZCARD" else 1) if name.endswith(("CARD", "LEN")) else held


class Typed(bytes):
    """A document that is no string."""


DOCUMENTS: dict[str, Callable[[Any], Any]] = {
    "TYPE": lambda held: b"ReJSON-RL" if isinstance(held, Typed) else b"none" if held is None else b"hash",
    "GET": lambda held: held if type(held) is bytes else redis.ResponseError("WRONGTYPE") if held else None,
    "JSON.GET": bytes,
}


def mark(op: str = "r", key: str = "k:1") -> Change:
    return Change(b"%05d-0" % next(_ids), key.encode(), f"{op}1".encode(), (), [])


def rows_of(made: Batch) -> list[tuple[Any, ...]]:
    return [(row.kind, row.key, row.members) for row in made.rows]


def batch(server: Members, *changes: Change, by: Converter | None = None) -> Batch:
    converters = [by or converter()]
    return Batch(server.fill(changes, converters), converters)


@pytest.mark.parametrize(
    ("kind", "held", "members"),
    [
        ("set", [b"b", b"a"], ((1, "b"), (1, "a"))),
        ("list", [b"b", b"b"], ((1, 0, "b"), (1, 1, "b"))),
        ("zset", [b"a", b"1.5", b"b", b"-inf"], ((1, "a", 1.5), (1, "b", float("-inf")))),
    ],
)
def test_the_members_that_there_are_become_the_rows(kind: str, held: list[bytes], members: Any) -> None:
    made = batch(Redis({b"k:1": held}), mark(), mark(), by=converter(kind))
    assert rows_of(made) == [("replace", (1,), members)]
    assert made.rows[0].columns == ("id", *COLUMNS[kind].values())


def test_one_read_stands_for_all_marks_of_a_key() -> None:
    server = Redis({b"k:1": [b"a"], b"k:2": [b"b"]})
    made = batch(server, mark(), mark("r", "k:2"), mark("n"))
    assert sorted(rows_of(made)) == [("replace", (1,), ((1, "a"),)), ("replace", (2,), ((2, "b"),))]
    assert len([each for each in server.asked if each[0] == "SMEMBERS"]) == 2
    assert not made.faults


@pytest.mark.parametrize("held", [b'{"tag": "a"}', Typed(b'{"tag": "a"}')])
@pytest.mark.parametrize("coming", [[], [b"k:1"]])
def test_a_document_that_the_module_could_not_read_is_read(held: bytes, coming: list[bytes]) -> None:
    server = Redis({b"k:1": held}, coming=coming)
    made = batch(server, mark(), mark(), by=converter("json"))
    assert [(row.kind, row.key, row.values) for row in made.rows] == [("upsert", (1,), (1, "a"))]
    assert not made.faults


def test_a_document_with_an_image_is_not_read() -> None:
    server = Redis({})
    whole = mark()._replace(fields=(b"$",), values=[b'{"tag": "a"}'])
    made = batch(server, mark(), whole, by=converter("json"))
    assert [row.values for row in made.rows] == [(1, "a")]
    assert (server.asked, made.faults) == ([], [])


def test_a_document_that_is_gone_unread_is_a_dead_letter() -> None:
    made = batch(Redis({b"k:1": ["of another type"]}), mark(), by=converter("json"))
    assert not made.rows
    assert "the key was gone before its document was read" in made.faults[0][1].reason


def test_members_of_a_slot_on_its_way_here_are_asked_for() -> None:
    server = Redis({b"k:1": [b"a"], b"k:2": [b"b"]}, coming=[b"k:2"])
    made = batch(server, mark(), mark(key="k:2"))
    assert rows_of(made) == [("replace", (1,), ((1, "a"),)), ("replace", (2,), ((2, "b"),))]


def test_a_deleted_key_has_no_rows() -> None:
    assert rows_of(batch(Redis({}), mark(), mark("d"))) == [("replace", (1,), ())]
    assert rows_of(batch(Redis({b"k:1": [b"a"]}), mark("d"), mark())) == [("replace", (1,), ((1, "a"),))]


@pytest.mark.parametrize(
    ("later", "explained"),
    [
        (["d"], True),
        (["x"], True),
        (["m"], True),
        (["r"], True),
        (["v"], False),
        ([], False),
        (["i", "d"], True),
    ],
)
@pytest.mark.parametrize("in_batch", [True, False])
def test_a_key_that_is_gone_unread_is_explained_or_a_dead_letter(
    later: list[str], explained: bool, in_batch: bool
) -> None:
    first = mark()
    others = [mark("r", "k:2"), *(mark(op) for op in later)]
    # A later mark is read as well, and is gone too.
    end = [mark("d")] if later == ["r"] else []
    server = Redis({b"k:2": [b"z"]}, () if in_batch else [*others, *end])
    made = batch(server, first, *(others + end if in_batch else ()))
    assert [fault.reason[:40] for _, fault in made.faults] == (
        [] if explained else ["the key was gone before its members were"]
    )
    assert not any(row.members for row in made.rows if row.key == (1,))


@pytest.mark.parametrize(
    ("before", "after", "explained"),
    [
        (converter(on_delete="delete"), converter(on_delete="keep"), False),
        (converter(on_delete="keep"), converter(on_delete="delete"), True),
        (converter(), converter("list"), False),
        (converter(), converter(keys="other:{id}"), False),
    ],
)
def test_what_a_version_that_follows_makes_of_the_end_of_a_key_counts(
    before: Converter, after: Converter, explained: bool
) -> None:
    first, end = mark(), mark("d")
    server = Redis({}, [end])
    at = {first.position: [before], end.position: [after]}
    made = Batch(server.fill([first], [before], at.__getitem__), [before])
    assert len(made.faults) == (not explained)


def test_keys_that_are_gone_share_one_look_at_the_lane() -> None:
    marks = [mark(key=f"k:{number}") for number in range(1, 9)]
    later = [mark("d", "k:1"), mark("x", "k:2"), mark("r", "k:3"), mark("d", "k:4")]
    server = Redis({}, later)
    made = batch(server, *marks, by=converter(on_expire="keep"))
    assert [words[0] for words in server.asked].count("XRANGE") == 1
    assert sorted(change.key for change, _ in made.faults) == [b"k:2", b"k:5", b"k:6", b"k:7", b"k:8"]
    flushed = Redis({}, [mark("d", "k:1"), mark("f", "")])
    assert not batch(flushed, *marks[:3], by=converter(on_flush="delete")).faults


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([b"a", b"b", b"c", b"d"], "the set has 4 members, and members=3 is the most"),
        ([b"much too long"], "column tag: the text has 13 characters, 5 fit"),
    ],
)
def test_what_does_not_fit_is_a_dead_letter_of_the_whole_key(held: list[bytes], words: str) -> None:
    last = mark()
    made = batch(Redis({b"k:1": held}), mark(), last, by=converter(members=3))
    assert not made.rows
    ((change, fault),) = made.faults
    assert change.id == last.id
    assert change.epoch == 1
    assert words in fault.reason


def test_members_that_the_column_takes_for_one_are_a_dead_letter() -> None:
    made = batch(
        Redis({b"k:1": [b"1", b"01"]}), mark(), by=converter(columns={"member": "place"}, table="list")
    )
    assert "two members are the same value there" in made.faults[0][1].reason


def test_another_database_is_selected_and_left() -> None:
    server = Redis({b"k:1": [b"a"]})
    batch(server, mark(), by=converter(db=3))
    assert [each[:2] for each in server.asked][:3] == [("SELECT", 3), ("SCARD", b"k:1"), ("SELECT", 0)]


def test_a_value_of_another_type_is_no_member() -> None:
    class Other(Redis):
        def _connected(self) -> Any:
            return self

        def pack_commands(self, words: Sequence[Any]) -> Any:
            return words

        def send_packed_command(self, words: Any) -> None:
            self.left = list(words)

        def read_response(self) -> Any:
            raise redis.ResponseError(self.error)

        _replies = Members._replies
        error = "WRONGTYPE Operation against a key"

    server = Other({})
    assert server._send([("SCARD", b"k:1")]) == [None]
    server.error = "NOPERM this user has no permissions"
    with pytest.raises(redis.ResponseError, match="NOPERM"):
        server._send([("SCARD", b"k:1")])


def test_many_members_are_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the marks of its keys; what a key has counts once in each."""
    monkeypatch.setattr(memberstates, "MOST_MEMBERS", 10)
    keys = {b"k:1": [b"a"] * 4, b"k:2": [b"a"] * 5, b"k:3": [b"a"] * 12, b"k:4": [b"a"]}
    changes = [mark(key=f"k:{number}") for number in (1, 2, 1, 9, 3, 3, 4, 1, 2)]
    server = Redis(keys)
    parts = server.portions(changes, [converter()])
    assert [[each.key[2:].decode() for each in part] for part in parts] == [
        ["1", "2", "1", "9"],
        ["3", "3"],
        ["4", "1", "2"],
    ]
    assert [each for part in parts for each in part] == changes
    assert {each[0] for each in server.asked} == {"SCARD"}
    # What is not read counts for nothing.
    assert server.portions(changes, [converter(members=3)]) == [changes]
    assert server.portions(changes[:3], [converter(members=5)]) == [changes[:3]]


def test_a_batch_without_such_functions_is_left_alone() -> None:
    changes = [mark()]
    assert Redis({}).fill(changes, []) is changes


def test_each_function_of_a_key_takes_no_more_members_than_it_says() -> None:
    by = [converter(members=1), converter(table="set", members=3)]
    made = Batch(Redis({b"k:1": [b"a", b"b"]}).fill([mark()], by), by)
    assert rows_of(made) == [("replace", (1,), ((1, "a"), (1, "b")))]
    [(_, fault)] = made.faults
    assert "the set has 2 members, and members=1 is the most that are taken" in fault.reason


@pytest.mark.parametrize("first", ["keep", "delete"])
def test_a_state_that_one_of_two_functions_keeps_is_missed_by_it(first: str) -> None:
    """Whichever of them the key is read for."""
    other = "delete" if first == "keep" else "keep"
    by = [converter(on_evict=first), converter(on_evict=other)]
    made = Batch(Redis({}).fill([mark(), mark("v")], by), by)
    assert {fault.reason for _, fault in made.faults} == {
        "the key was gone before its members were read (evicted, expired, flushed, or deleted after an "
        "upgrade): its rows are those of an earlier state, which the mapping keeps"
    }
    assert rows_of(made) == [("replace", (1,), ())]
