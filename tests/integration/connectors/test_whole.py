"""Transactions that stay whole: of a refused one nothing is in SQL, and the others are as without it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Target
from gears.applying import applier
from gears.applying.applier import Applier
from gears.applying.change import Change
from gears.applying.deadletters import Letter
from gears.applying.report import TargetReport
from gears.declaring.deployment import WHOLE, Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template
from tests.form import SOAK
from tests.integration.connectors.test_isolation import CHILD, STRICT

Write = tuple[str, str, dict[str, str]]
"""Operation, key and image."""


class Lane:
    """The changes of one lane on their way into ``strict`` and ``child``."""

    def __init__(self, database: Any, stream: str = "lane") -> None:
        self.database = database
        self.by_id: dict[str, Letter] = {}
        self.seq = 0
        self.report = TargetReport()
        columns = {"a": "a", "email": "email"}
        strict = Mapping(Template("s:{id}"), "strict", columns, on_flush="delete")
        functions = [
            Function("stricts", strict, "t"),
            Function("children", Mapping(Template("c:{id}"), "child", {"of": "strict_id"}), "t"),
        ]
        targets = {"t": Target("env:T", name="t")}
        deployment = Deployment("people", functions=functions, targets=targets, transactions=WHOLE)
        self.applier = Applier(database.connector, deployment, "t", {}, self.report, self.bury)
        self.applier.open(stream, 1, "worker-1")

    def bury(self, letters: Sequence[Letter]) -> list[str]:
        """Keep letters as the stream does: one that is there already is not added again."""
        self.by_id.update((each.id, each) for each in letters)
        return [each.id for each in letters]

    @property
    def letters(self) -> list[Letter]:
        return [self.by_id[each] for each in sorted(self.by_id, key=lambda each: int(each[2:]))]

    def apply(self, *transactions: list[Write]) -> None:
        """Apply transactions as one batch."""
        found = []
        for transaction in transactions:
            for at, (op, key, image) in enumerate(transaction):
                self.seq += 1
                meta = f"{op}1{'+' if at else ''}".encode()
                fields, values = [each.encode() for each in image], [each.encode() for each in image.values()]
                found.append(Change(b"5-%d" % self.seq, key.encode(), meta, tuple(fields), values))
        self.applier.commit(self.applier.prepare(found))

    def rows(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.database.sql("SELECT id, a FROM strict ORDER BY id")
        return found

    def refused(self) -> list[tuple[str, str, str]]:
        """Return (transaction, key, reason) of each letter."""
        return [
            (each.fields.get("transaction", b"").decode(), each.fields["key"].decode(), _reason(each))
            for each in self.letters
        ]


def _reason(letter: Letter) -> str:
    return letter.fields["reason"].decode()


def u(number: int, a: str, email: str = "") -> Write:
    return "u", f"s:{number}", {"a": a, "email": email or f"{number}@x"}


def child(number: int, parent: int) -> Write:
    return "u", f"c:{number}", {"of": str(parent)}


@pytest.fixture
def lane(database: Any) -> Lane:
    """On each kind of database."""
    return _made(database)


@pytest.fixture
def local(on_sqlite: Any) -> Lane:
    """On one, where they do not differ."""
    return _made(on_sqlite)


def _made(database: Any) -> Lane:
    database.sql(STRICT)
    database.sql(CHILD)
    return Lane(database)


def test_a_scale_that_is_narrowed_is_noticed(on_postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database would round, and not say so."""
    on_postgres.sql(STRICT)
    on_postgres.sql(CHILD)
    on_postgres.sql("ALTER TABLE strict ALTER a TYPE NUMERIC(9, 2) USING a::numeric")
    lane = Lane(on_postgres)
    lane.apply([u(1, "1.25")])
    on_postgres.sql("ALTER TABLE strict ALTER a TYPE NUMERIC(9, 1)")
    monkeypatch.setattr(applier, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(applier, "LOOK_AGAIN_SHARE", 1e9)
    lane.apply([u(2, "2.25")], [u(3, "3.5")])
    assert [row[0] for row in lane.rows()] == [1, 3]
    assert "2 digits after the point, 1 fit" in lane.refused()[0][2]
    # Other tables go on.
    on_postgres.sql("DROP TABLE child")
    lane.apply([u(4, "4.5")])
    assert [row[0] for row in lane.rows()] == [1, 3, 4]


def test_a_refused_row_takes_its_transaction_with_it(lane: Lane) -> None:
    """Keys that others of the batch wrote too are as if the refused one had never been there."""
    lane.apply([u(1, "1"), u(2, "1"), u(9, "1")])
    lane.apply(
        [u(1, "2"), u(2, "2")],
        [u(1, "3"), u(3, "13"), u(2, "3"), ("d", "s:9", {})],
        [u(2, "4"), u(4, "4")],
        [u(5, "5")],
        [u(6, "13")],
    )
    assert lane.rows() == [(1, 2), (2, 4), (4, 4), (5, 5), (9, 1)]
    found = lane.refused()
    assert [each[:2] for each in found] == [
        *(("5-6", key) for key in ("s:1", "s:3", "s:2", "s:9")),
        ("", "s:6"),
    ]
    assert "s:3 in it is refused" in found[0][2] and "left out" not in found[1][2]
    assert json.loads(lane.letters[3].fields["functions"]) == ["stricts"]


def test_values_that_are_none_are_refused_before_sql(local: Lane) -> None:
    local.apply([u(1, "1"), u(2, "1")], [u(1, "2"), u(3, "word")], [u(4, "word")], [u(2, "5"), u(5, "5")])
    assert local.rows() == [(1, 1), (2, 5), (5, 5)]
    assert [each[:2] for each in local.refused()] == [("5-3", "s:1"), ("5-3", "s:3"), ("", "s:4")]


def test_both_kinds_of_refusal_in_one_batch(local: Lane) -> None:
    """One that coalescing had hidden is found, too."""
    local.apply([u(1, "word"), u(2, "2")], [u(1, "1")], [u(3, "3"), u(4, "13")], [u(5, "word"), u(6, "6")])
    assert local.rows() == [(1, 1)]
    assert [each[1] for each in local.refused()] == ["s:1", "s:2", "s:3", "s:4", "s:5", "s:6"]


def test_what_was_deleted_stays_so(local: Lane) -> None:
    local.apply([u(1, "1"), u(2, "1")])
    local.apply([("d", "s:1", {}), u(2, "2")], [u(1, "3"), u(3, "13")], [u(4, "4"), u(2, "13")])
    assert local.rows() == [(2, 2)]


def test_a_child_may_come_before_its_parent(lane: Lane) -> None:
    """Within a transaction, and across those of a batch in which something else is refused."""
    lane.apply([child(1, 1), u(1, "1")], [child(2, 2), child(3, 1)], [u(7, "13")], [child(4, 4)], [u(2, "2")])
    assert lane.rows() == [(1, 1), (2, 2)]
    assert lane.database.sql("SELECT id FROM child ORDER BY id") == [(1,), (2,), (3,)]
    assert [each[1] for each in lane.refused()] == ["s:7", "c:4"]


def test_an_older_transaction_does_not_follow_a_newer_one(local: Lane) -> None:
    """It could go in once its parent is there; but a row of it is newer by then."""
    local.apply([child(1, 2), u(1, "1")], [u(1, "3"), u(2, "2")], [u(7, "13")])
    assert local.rows() == [(1, 3), (2, 2)]
    assert [each[1] for each in local.refused()] == ["c:1", "s:1", "s:7"]


def test_unique_values_that_change_places(lane: Lane) -> None:
    """All of a transaction counts, not the order of its rows, unless the database itself sees one."""
    lane.apply([u(1, "1", "one@x"), u(2, "2", "two@x")])
    lane.apply([("d", "s:1", {}), u(3, "3", "one@x")], [u(4, "4", "two@x"), u(5, "5")], [u(6, "6")])
    assert lane.rows() == [(2, 2), (3, 3), (6, 6)]
    assert [each[1] for each in lane.refused()] == ["s:4", "s:5"]


def test_a_flush_in_a_refused_transaction(local: Lane) -> None:
    """It is left out, too, and a letter says so; of no function it was a change."""
    local.apply([u(1, "1")], [("f", "", {}), u(2, "13")], [u(3, "3")])
    assert local.rows() == [(1, 1), (3, 3)]
    assert [each[:2] for each in local.refused()] == [("5-2", ""), ("5-2", "s:2")]
    assert local.report.document()["functions"] == {"stricts": 2, "children": 0}
    local.apply([("f", "", {}), u(4, "4")])
    assert local.rows() == [(4, 4)]


def test_batches_without_transactions_are_as_ever(local: Lane) -> None:
    local.apply([u(1, "1")], [u(1, "13")], [u(2, "word")], [u(2, "2")], [u(3, "13")])
    assert local.rows() == [(1, 1), (2, 2)]
    assert [each[:2] for each in local.refused()] == [("", "s:1"), ("", "s:3")]


WRITES = st.tuples(
    st.sampled_from("uuurnd"), st.sampled_from(["s:1", "s:2", "s:3"]), st.sampled_from(["1", "2", "13", "no"])
).map(lambda each: (each[0], each[1], {} if each[0] == "d" else {"a": each[2], "email": each[1]}))


def is_sound(transaction: list[Write]) -> bool:
    """Whether the database takes it as it is: of each key the last state."""
    last = {key: image.get("a", "") for _, key, image in transaction}
    return not {"13", "no"} & set(last.values())


@settings(
    max_examples=200 if SOAK else 12,
    deadline=None,
)
@given(batch=st.lists(st.lists(WRITES, min_size=1, max_size=3), min_size=1, max_size=6))
def test_a_batch_is_as_without_what_is_refused(on_sqlite: Any, batch: list[list[Write]]) -> None:
    """All of what is left, and nothing of the others; only what the database does not take is refused."""
    on_sqlite.sql("DROP TABLE IF EXISTS child"), on_sqlite.sql("DROP TABLE IF EXISTS strict")
    on_sqlite.sql(STRICT), on_sqlite.sql(CHILD), on_sqlite.sql("DELETE FROM gearsync_checkpoint")
    lane = Lane(on_sqlite)
    lane.apply(*batch)
    refused = {each.fields.get("transaction", each.id.encode()).decode() for each in lane.letters}
    rows: dict[int, str] = {}
    seq = 1
    for transaction in batch:
        if f"5-{seq}" in refused:
            assert not is_sound(transaction)
        else:
            for op, key, image in transaction:
                rows.pop(int(key[2:]), None)
                rows.update({int(key[2:]): image["a"]} if op != "d" else {})
        seq += len(transaction)
    assert lane.rows() == sorted((number, int(value)) for number, value in rows.items())
