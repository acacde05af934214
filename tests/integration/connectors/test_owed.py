"""What a refused write would have emptied is emptied by the next good write of its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Position, SchemaMismatch, Target, Unavailable
from gears.applying.applier import Applier
from gears.applying.change import Change
from gears.applying.deadletters import Letter
from gears.applying.report import TargetReport
from gears.declaring.additions import Additions
from gears.declaring.deployment import WHOLE, Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template
from tests.form import SOAK

TABLE = "CREATE TABLE owing (id INT PRIMARY KEY, a INT, b INT, c INT DEFAULT 7, e INT, CHECK (a <> 13))"
REFERRING = (
    "CREATE TABLE referring (id INT PRIMARY KEY, of_id INT, FOREIGN KEY (of_id) REFERENCES owing (id))"
)
DEBTS = "SELECT COUNT(*) FROM gearsync_letter WHERE epoch = -1"
COLUMNS = {"a": "a", "b": "b", "c": "c"}
BAD = ["no", "13"]
"""What a worker refuses, and what the database alone does."""

Write = tuple[str, int, dict[str, str]]
"""Operation, number of the key, and image."""


class Lane:
    """The changes of one lane on their way into ``owing``."""

    def __init__(self, database: Any, *more: Function, transactions: str = "", **policies: Any) -> None:
        self.database = database
        self.refused: list[str] = []
        self.seq = 0
        mapping = Mapping(Template("k:{id}"), "owing", COLUMNS, **policies)
        targets = {"t": Target("env:T", name="t")}
        words: dict[str, Any] = {"transactions": transactions} if transactions else {}
        functions = [Function("owing", mapping, "t"), *more]
        self.deployment = Deployment("people", functions=functions, targets=targets, **words)
        self.restart()

    def restart(self) -> None:
        """Begin anew, as another worker does."""
        self.applier = Applier(self.database.connector, self.deployment, "t", {}, TargetReport(), self.bury)
        self.applier.open("lane", 1, f"worker-{self.seq}")

    def bury(self, letters: Sequence[Letter]) -> list[str]:
        self.refused += [each.id for each in letters if each.id not in self.refused]
        return [each.id for each in letters]

    def apply(self, *transactions: Write | list[Write]) -> None:
        """Apply transactions as one batch."""
        found = []
        for transaction in transactions:
            for at, (op, number, image) in enumerate(
                [transaction] if isinstance(transaction, tuple) else transaction
            ):
                self.seq += 1
                meta = f"{op}1{'+' if at else ''}".encode()
                fields, values = [each.encode() for each in image], [each.encode() for each in image.values()]
                found.append(Change(b"5-%d" % self.seq, b"k:%d" % number, meta, tuple(fields), values))
        self.applier.commit(self.applier.prepare(found))

    def rows(self, columns: str = "a, b, c") -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.database.sql(f"SELECT {columns} FROM owing ORDER BY id")
        return found

    def owed(self) -> int:
        """Return how many debts SQL knows of."""
        [[number]] = self.database.sql(DEBTS)
        return int(number)


def write(op: str, number: int = 1, **image: object) -> Write:
    return op, number, {name: str(value) for name, value in image.items()}


@pytest.fixture
def lane(database: Any) -> Lane:
    """On each kind of database."""
    database.sql(TABLE)
    return Lane(database)


@pytest.fixture
def local(on_sqlite: Any) -> Lane:
    """On one, where they do not differ."""
    on_sqlite.sql(TABLE)
    return Lane(on_sqlite)


@pytest.mark.parametrize("bad", BAD)
def test_the_next_good_write_empties_what_went(lane: Lane, bad: str) -> None:
    lane.apply(write("u", a=1, b=2, c=3), write("u", 2, a=1, b=2, c=3))
    lane.apply(write("r", a=bad, c=3), write("n", 2, a=bad))
    assert (lane.rows(), lane.owed()) == ([(1, 2, 3)] * 2, 2)
    lane.apply(write("u", a=4, c=3), write("u", 2, a=4))
    assert lane.rows() == [(4, None, 3), (4, None, 7)]
    assert (len(lane.refused), lane.owed()) == (2, 0)


@pytest.mark.parametrize("bad", BAD)
def test_also_a_worker_that_begins_later(lane: Lane, bad: str) -> None:
    lane.apply(write("u", a=1, b=2, c=3), *(write("u", number, a=1) for number in range(2, 9)))
    lane.apply(write("n", a=bad))
    lane.restart()
    # Whatever else is in its batch, and as what it went before.
    lane.apply(*(write("u", number, a=number) for number in range(8, 0, -1)))
    assert lane.rows() == [(1, None, 7), *((number, None, 7) for number in range(2, 9))]
    assert lane.owed() == 0


def test_a_debt_is_paid_once(lane: Lane) -> None:
    """What others fill in later is theirs, as without all this."""
    lane.apply(write("u", a=1, b=2))
    lane.apply(write("r", a="no"))
    lane.apply(write("u", a=3))
    lane.database.sql("UPDATE owing SET b = 9")
    lane.apply(write("u", a=4))
    lane.restart()
    lane.apply(write("u", a=5))
    assert lane.rows() == [(5, 9, None)]


def test_who_owes_nothing_has_no_table(lane: Lane) -> None:
    lane.apply(write("u", a=1, b=2), write("r", a=1), write("d", 2))
    lane.restart()
    with pytest.raises(Exception, match="gearsync_letter"):
        lane.owed()


def test_only_what_went_and_did_not_come_again(local: Lane) -> None:
    local.apply(write("u", a=1, b=2, c=3))
    local.apply(write("r", a="no", c=3))
    local.apply(write("u", a="no", b=5, c=3))
    local.apply(write("r", a="no", b=5))
    assert (local.rows(), local.owed()) == ([(1, 2, 3)], 1)
    local.apply(write("u", a=1, b=6))
    assert local.rows() == [(1, 6, None)]


def test_a_refused_deletion(local: Lane) -> None:
    """The next hash of the key begins anew, as it does in one batch with it."""
    local.database.sql(REFERRING)
    local.apply(write("u", a=1, b=2, c=3))
    local.database.sql("INSERT INTO referring VALUES (1, 1)")
    local.apply(write("d"))
    assert (local.rows(), local.refused) == ([(1, 2, 3)], ["5-2"])
    local.restart()
    local.apply(write("u", b=4))
    assert local.rows() == [(None, 4, 7)]


@pytest.mark.parametrize("parted", [False, True])
def test_a_row_that_an_eviction_keeps(local: Lane, parted: bool) -> None:
    """What the evicted hash had stays, and what it did not have goes."""
    local.apply(write("u", a=1, b=2, c=3))
    batch = [write("r", a="no", c=3), write("v"), write("u", a=4)]
    for part in [[each] for each in batch] if parted else [batch]:
        local.apply(*part)
    assert (local.rows(), local.owed()) == ([(4, None, 3)], 0)
    # Nothing of it comes up again when what has come since is kept in its turn.
    local.apply(write("u", a=5, b=6))
    local.apply(write("v"), write("u", a=7))
    assert local.rows() == [(7, 6, 3)]


def test_who_comes_to_a_first_part_of_a_batch_alone_claims_the_lane_again(
    local: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the claim tells that there is no more than the rest to apply."""
    connector = local.database.connector
    positions: list[Position] = []
    local.apply(write("u", a=1, b=2, c=3))
    apply = connector.apply

    def fail_behind(claim: Any, position: Position, *words: Any) -> Any:
        if positions:
            raise SchemaMismatch("a column is gone")
        applied = apply(claim, position, *words)
        positions.append(position)
        return applied

    monkeypatch.setattr(connector, "apply", fail_behind)
    with pytest.raises(Unavailable, match="a column is gone"):
        local.apply(write("r", a="no", c=3), write("v"), write("u", a=4))
    assert positions == [connector.claim("lane", 1, "worker-0").position]
    assert positions[0].seq < local.seq


@pytest.mark.parametrize("transactions", ["", WHOLE])
def test_a_row_that_two_evictions_keep(on_sqlite: Any, transactions: str) -> None:
    """In one batch: the first of two states pays, and if it is refused the second does."""
    on_sqlite.sql(TABLE)
    lane = Lane(on_sqlite, transactions=transactions)
    lane.apply(write("u", a=1, b=2, c=3), write("u", 2, a=1, b=2, c=3))
    lane.apply(write("r", a="no", c=3), write("r", 2, a="no", c=3))
    lane.apply(
        [write("u", b=6), write("u", 3, b=1)] if transactions else write("u", b=6),
        write("v"),
        write("u", a=4),
        write("u", 2, a=13),
        write("v", 2),
        write("u", 2, c=4),
    )
    assert (lane.rows()[:2], lane.owed()) == ([(4, 6, 3), (1, None, 4)], 0)


def test_a_marked_row(on_sqlite: Any) -> None:
    on_sqlite.sql("CREATE TABLE owing (id INT PRIMARY KEY, a INT, b INT, c INT DEFAULT 7, gone DATETIME)")
    lane = Lane(on_sqlite, on_delete="mark", additions=Additions(deleted_at="gone"))
    lane.apply(write("u", a=1, b=2, c=3))
    lane.apply(write("r", a="no"))
    lane.apply(write("d"))
    assert lane.owed() == 0
    lane.apply(write("u", a=4))
    assert lane.rows("a, b, c, gone") == [(4, None, 7, None)]


def test_a_flush_settles_all(on_sqlite: Any) -> None:
    on_sqlite.sql(TABLE)
    lane = Lane(on_sqlite, on_flush="delete")
    lane.apply(*(write("u", number, a=1, b=2) for number in range(3)))
    lane.apply(*(write("r", number, a="no") for number in range(3)))
    lane.apply(write("r", 0, a="no"), write("f", -1), write("r", 1, a="no"))
    assert (lane.rows(), lane.owed()) == ([], 1)
    lane.apply(write("u", 0, a=1), write("u", 1, a=1))
    assert (lane.rows(), lane.owed()) == ([(1, None, 7)] * 2, 0)


def test_of_two_functions_the_one_that_was_refused(on_sqlite: Any) -> None:
    on_sqlite.sql(TABLE)
    on_sqlite.sql("CREATE TABLE others (id INT PRIMARY KEY, b INT, e INT)")
    mapping = Mapping(Template("k:{id}"), "others", {"b": "b", "e": "e"})
    lane = Lane(on_sqlite, Function("others", mapping, "t"))
    lane.apply(write("u", a=1, b=2, e=3))
    lane.apply(write("r", a="no", e=3))
    on_sqlite.sql("UPDATE others SET b = 9")
    lane.apply(write("u", a=4, e="no"))
    lane.apply(write("u", a=4, e=5))
    assert (lane.rows("a, b"), on_sqlite.sql("SELECT b, e FROM others")) == ([(4, None)], [(9, 5)])


@pytest.mark.parametrize("bad", BAD)
def test_transactions_that_stay_whole(database: Any, bad: str) -> None:
    """In one batch with the refused one, and in later ones; also of a key that was taken along."""
    database.sql(TABLE)
    lane = Lane(database, transactions=WHOLE)
    lane.apply(*(write("u", number, a=1, b=2) for number in range(4)))
    lane.apply(
        [write("n", 0, a=3), write("u", 1, a=bad)],
        [write("u", 0, a=4)],
        [write("r", 2, a=3), write("d", 3), write("u", 1, a=bad)],
    )
    assert (lane.rows("a, b"), lane.owed()) == ([(4, None), (1, 2), (1, 2), (1, 2)], 2)
    lane.restart()
    lane.apply([write("u", 2, a=bad)], [write("u", 2, a=5), write("u", 3, c=3)], [write("u", 1, a=6)])
    assert (lane.rows(), lane.owed()) == ([(4, None, 7), (6, 2, 7), (5, None, None), (None, None, 3)], 0)


def test_a_database_that_takes_no_note(local: Lane) -> None:
    """Then the worker knows it as long as it lives."""
    local.database.sql("CREATE TABLE gearsync_letter (other INT)")
    local.restart()
    local.apply(write("u", a=1, b=2))
    local.apply(write("r", a="no"))
    local.apply(write("u", a=3))
    assert local.rows() == [(3, None, None)]


# -- Any writes, in any batches ------------------------------------------------------------------------------

GOOD = st.sampled_from(["1", "2"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "del", "hdel", "hdel", "new"]),
        st.integers(1, 2),
        st.fixed_dictionaries({}, optional={"a": GOOD | st.sampled_from(BAD), "b": GOOD, "c": GOOD}),
        st.sampled_from(["", "batch", "restart"]),
        st.booleans(),
    ),
    min_size=10,
    max_size=25,
)


def _step(hashes: dict[int, dict[str, str]], what: str, number: int, given: dict[str, str]) -> Write | None:
    """Do as a command would, and return its change."""
    before = hashes.get(number, {})
    if what == "hdel":
        left = {name: value for name, value in before.items() if name not in given}
        op = "r" if left else "d"
    else:
        left = {} if what == "del" else given if what == "new" else {**before, **given}
        op = {"set": "u", "del": "d", "new": "n"}[what]
    if left == before:
        return None
    hashes[number] = left
    return write(op, number, **left)


@pytest.mark.parametrize("transactions", ["", WHOLE])
@settings(max_examples=500 if SOAK else 25, deadline=None)
@given(steps=STEPS)
def test_healed_rows_are_what_redis_has(on_sqlite: Any, transactions: str, steps: list[Any]) -> None:
    for name in ("owing", "gearsync_checkpoint", "gearsync_letter"):
        on_sqlite.sql(f"DROP TABLE IF EXISTS {name}")
    on_sqlite.sql(TABLE.replace(" DEFAULT 7", ""))
    on_sqlite.connector.forget_tables()
    on_sqlite.connector.ensure_checkpoint()
    lane = Lane(on_sqlite, transactions=transactions)
    hashes: dict[int, dict[str, str]] = {}
    waiting: list[list[Write]] = []

    def do(what: str, number: int, fields: dict[str, str], goes_on: bool) -> None:
        change = _step(hashes, what, number, fields)
        if change is not None and waiting and goes_on:
            waiting[-1].append(change)
        elif change is not None:
            waiting.append([change])

    for what, number, fields, then, goes_on in steps:
        do(what, number, fields, goes_on)
        if then and waiting:
            lane.apply(*waiting)
            waiting.clear()
        if then == "restart":
            lane.restart()
    for number in (1, 2):
        mended = {name: "6" for name, value in hashes.get(number, {}).items() if value in BAD}
        do("set", number, {"a": "5", **mended}, False)
    lane.apply(*waiting)
    found = [tuple(int(of[name]) if name in of else None for name in "abc") for of in (hashes[1], hashes[2])]
    assert (lane.rows(), lane.owed() if lane.refused else 0) == (found, 0)
