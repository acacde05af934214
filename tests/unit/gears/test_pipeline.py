"""Coalescing: the rows are the same however the changes fall into batches, and the last good state counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Refusal
from gears.applying.change import Change
from gears.applying.pipeline import Batch, faults_of, letters_of, parts_of
from gears.declaring.functions import Change as SeenChange
from gears.worker.moving import moves
from tests.unit.gears.batches import COLUMNS, DEFAULTS, NOT_NULL, Rows, batch, change, converter, run

# -- A model: hashes that are written, and the rows as docs/design.md says, change by change ---------------

IDS = ("1", "2")
FIELD = st.sampled_from(COLUMNS)
IMAGE = st.dictionaries(FIELD, st.sampled_from("123"), min_size=1)
COMMANDS = st.one_of(
    st.tuples(st.just("hset"), st.sampled_from(IDS), IMAGE),
    st.tuples(st.just("hset"), st.sampled_from(IDS), IMAGE),
    st.tuples(st.just("hdel"), st.sampled_from(IDS), st.sets(FIELD, min_size=1)),
    st.tuples(st.just("replace"), st.sampled_from(IDS), IMAGE),
    st.tuples(st.sampled_from("dxv"), st.sampled_from(IDS), st.none()),
    st.tuples(st.just("flush"), st.just(""), st.none()),
)
POLICY = st.sampled_from(["delete", "keep"])
POLICIES = st.fixed_dictionaries({f"on_{event}": POLICY for event in ("delete", "expire", "evict", "flush")})
Hashes = dict[str, dict[str, str]]


def capture(hashes: Hashes, command: tuple[str, str, Any]) -> list[Change]:
    """Run a command on the hashes; return the changes that the module writes for it."""
    kind, number, argument = command
    key = f"person:{number}"
    if kind == "flush":
        hashes.clear()
        return [change("f", key="")]
    if kind == "hset":
        hashes.setdefault(number, {}).update(argument)
        return [change("u", key, **hashes[number])]
    if kind == "replace":
        hashes[number] = dict(argument)
        return [change("n", key, **hashes[number])]
    if number not in hashes:
        return []
    if kind == "hdel":
        left = {name: value for name, value in hashes[number].items() if name not in argument}
        if left == hashes[number]:
            return []
        if left:
            hashes[number] = left
            return [change("r", key, **left)]
        kind = "d"
    del hashes[number]
    return [change(kind, key)]


def as_designed(rows: Rows, entry: Change, policies: dict[str, str]) -> None:
    """Apply one change as the table of operations in docs/design.md says."""
    op = entry.op.decode()
    if op == "f":
        if policies["on_flush"] == "delete":
            rows.clear()
        return
    identity = ("persons", (int(entry.key[7:]),))
    gone = {"d": "on_delete", "x": "on_expire", "v": "on_evict"}
    if op in gone:
        if policies[gone[op]] == "delete":
            rows.pop(identity, None)
        return
    image = {name.decode(): value.decode() for name, value in entry.image.items()}
    row = rows.setdefault(identity, {**DEFAULTS, **dict.fromkeys(set(COLUMNS) - {*image}, ...)})
    for name in COLUMNS:
        if name in image:
            row[name] = int(image[name]) if name == "age" else image[name]
        elif op == "n" or row[name] is ...:
            row[name] = DEFAULTS[name]
        elif op == "r":
            row[name] = DEFAULTS[name] if name in NOT_NULL else None


@settings(max_examples=400, deadline=None)
@given(st.lists(COMMANDS, max_size=14), POLICIES, st.data())
def test_rows_do_not_depend_on_how_changes_fall_into_batches(
    commands: list[tuple[str, str, Any]], policies: dict[str, Any], data: st.DataObject
) -> None:
    hashes: Hashes = {}
    entries = [entry for command in commands for entry in capture(hashes, command)]
    expected: Rows = {}
    for entry in entries:
        as_designed(expected, entry, policies)
    functions = [converter(**policies)]
    if data.draw(st.booleans()):
        # Another function over the same keys and table, with nothing to add: it must not harm.
        functions.append(converter(columns=COLUMNS[:1], name="names", **policies))
    rows: Rows = {}
    while entries:
        size = data.draw(st.integers(1, len(entries)))
        run(rows, Batch(entries[:size], functions).rows)
        entries = entries[size:]
    assert rows == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(COMMANDS, min_size=1, max_size=14))
def test_a_transform_that_changes_nothing_changes_nothing(commands: list[tuple[str, str, Any]]) -> None:
    hashes: Hashes = {}
    entries = [entry for command in commands for entry in capture(hashes, command)]
    plain: Rows = {}
    transformed: Rows = {}
    for entry in entries:
        run(plain, batch([entry]).rows)
    if entries:
        run(transformed, batch(entries, converter(transform=lambda seen: seen)).rows)
    assert transformed == plain


# -- Bad values ----------------------------------------------------------------------------------------------


def test_the_last_good_image_wins_and_each_bad_one_after_it_is_a_letter() -> None:
    changes = [change("u", age="1"), change("u", age="2"), change("u", age="x"), change("u", age="y")]
    prepared = batch(changes)
    rows: Rows = {}
    run(rows, prepared.rows)
    assert rows["persons", (1,)]["age"] == 2
    assert [fault[0].image for fault in prepared.faults] == [{b"age": b"y"}, {b"age": b"x"}]
    assert [letter.id for letter in letters_of(prepared.faults)] == [changes[2].id, changes[3].id]
    assert prepared.position == changes[3].position


def test_a_bad_image_before_a_good_one_is_no_letter() -> None:
    prepared = batch([change("u", age="x"), change("r", age="2")])
    assert not prepared.faults
    assert [row.values for row in prepared.rows] == [(1, 2, None)]


def test_the_last_good_state_can_be_that_the_row_is_gone() -> None:
    prepared = batch([change("u", age="1"), change("d"), change("u", age="x")])
    assert [row.kind for row in prepared.rows] == ["delete"]
    assert len(prepared.faults) == 1


def test_the_last_good_state_of_one_function_takes_no_row_of_another_away() -> None:
    """It stands where it was, and the other's row behind it."""
    functions = converter(columns=["name"]), converter(columns=["age"], name="ages")
    changes = [change("u", name="Ada", age="1"), change("d"), change("u", name="Eve", age="x")]
    prepared = batch(changes, *functions)
    assert [(row.kind, row.place) for row in prepared.rows] == [("delete", 1), ("upsert", 2)]
    rows: Rows = {}
    run(rows, prepared.rows)
    assert rows["persons", (1,)]["name"] == "Eve"
    assert [fault.function for _, fault in prepared.faults] == ["ages"]


def test_no_state_from_before_a_flush_comes_back() -> None:
    changes = [change("u", age="1"), change("f", key=""), change("u", age="x")]
    prepared = batch(changes, converter(on_flush="delete"))
    assert [row.kind for row in prepared.rows] == ["clear"]
    assert len(prepared.faults) == 1


def test_a_bad_key_is_a_letter_and_has_no_row() -> None:
    prepared = batch([change("u", key="person:abc", age="1"), change("u", age="2")])
    assert [row.key for row in prepared.rows] == [(1,)]
    [(_, fault)] = prepared.faults
    assert (fault.column, fault.function, fault.table) == ("id", "persons", "persons")
    assert "from the key" in fault.reason


def test_the_end_of_a_key_that_never_had_a_row_is_nothing() -> None:
    for op in "dxv":
        prepared = batch([change(op, key="person:abc")], converter(on_evict="delete"))
        assert (list(prepared.rows), prepared.faults) == ([], [])


def test_earlier_states_are_those_before_the_refused_row() -> None:
    changes = [change("u", age="1"), change("u", age="x"), change("d"), change("u", age="2")]
    prepared = batch(changes)
    [row] = prepared.rows
    assert [each.kind for each in prepared.earlier(row)] == ["upsert", "delete"]
    assert [fault[0] for fault in prepared.faults] == [changes[1]]


# -- Order among functions -----------------------------------------------------------------------------------


def test_functions_that_write_one_row_keep_the_order_of_the_lane() -> None:
    """A plain function's rows are coalesced, a transform's are not; both stand where their change stands."""

    def into_one(seen: SeenChange) -> SeenChange:
        seen.fields["name"] = "transf"
        return seen

    plain = converter(columns=["name"])
    other = converter("alias:{id}", transform=into_one, name="aliases")
    first, second = change("u", name="plain"), change("u", key="alias:1", name="any")
    for changes, expected in (([first, second], "transf"), ([second, first], "plain")):
        rows: Rows = {}
        run(rows, batch(changes, plain, other).rows)
        assert rows["persons", (1,)]["name"] == expected


def test_a_flush_clears_what_transforms_wrote_before_it_and_not_after() -> None:
    seen_all = converter(transform=lambda seen: seen, on_flush="delete")
    prepared = batch([change("u", age="1"), change("f", key=""), change("u", age="2")], seen_all)
    assert [row.kind for row in prepared.rows] == ["clear", "upsert"]


def test_changes_that_no_function_covers_are_counted() -> None:
    for ops in ("uu", "ud"):
        prepared = batch([change(op, key="other:1") for op in ops])
        assert (prepared.skipped, list(prepared.rows)) == (2, [])


# -- Letters -------------------------------------------------------------------------------------------------


def test_letters_gather_what_all_functions_say_of_one_change() -> None:
    first, second = converter(), converter(to="archive")
    changes = [change("u", age="x"), change("u", key="person:2", age="2")]
    prepared = batch(changes, first, second)
    refused = [Refusal(row, "no such parent", "") for row in prepared.rows if row.table == "archive"]
    letters = letters_of([*faults_of(refused), *prepared.faults])
    assert [letter.id for letter in letters] == [changes[0].id, changes[1].id]
    assert [letter.functions for letter in letters] == [{"persons", "archive"}, {"archive"}]
    assert letters[0].fields["column"] == b"age"
    assert letters[0].fields["reason"].count(b"whole number") == 1
    assert letters[1].fields["reason"] == b"no such parent"


@pytest.mark.parametrize("epochs", ["12", "21"])
def test_letters_stand_in_the_order_of_ids(epochs: str) -> None:
    """Also after a failover, because a stream takes ids in no other order."""
    changes = [change("u", epoch=epoch, age="x") for epoch in epochs]
    faults = [(each, converter().fault("bad")) for each in reversed(changes)]
    assert [letter.id for letter in letters_of(faults)] == [each.id for each in changes]


def test_a_hash_that_was_evicted_and_written_anew_keeps_the_columns_that_it_lacks() -> None:
    """By default eviction keeps the row: what the new hash lacks stays as the old one had it."""
    changes = [
        change("u", name="Ada", age="36"),
        change("v"),
        change("u", name="Eve"),
        change("u", name="x" * 9),
    ]
    prepared = batch(changes)
    rows: Rows = {}
    run(rows, prepared.rows)
    assert rows["persons", (1,)] == {"name": "Eve", "age": 36, "note": "empty"}
    assert prepared.earlier(prepared.rows[1]) == []


# -- Keys that change their shard ---------------------------------------------------------------------------


def test_marks_change_no_row_and_are_told() -> None:
    changes = [change("i", n="a" * 40), change("u", age="1"), change("m", n="b" * 40)]
    prepared = batch(changes)
    assert [row.kind for row in prepared.rows] == ["upsert"]
    assert prepared.marks == [changes[0], changes[2]]
    assert prepared.position == changes[2].position
    given, taken = moves.of_marks("people", "shop", prepared.marks)
    assert given == (moves.token("people", "shop", changes[2]),)
    assert taken == (moves.token("people", "shop", changes[0]),)
    # Another target may be in the same database, and its lanes are not as far.
    assert not set(given) & set(moves.of_marks("people", "other", prepared.marks).given)


def test_a_mark_without_a_node_gives_no_token() -> None:
    assert moves.of_marks("people", "shop", [change("m", n="0" * 40)]) == ((), ())


@pytest.mark.parametrize(
    ("ops", "sizes"),
    [("uuu", [3]), ("iu", [2]), ("iiu", [3]), ("ui", [1, 1]), ("umiiui", [2, 3, 1]), ("", [0]), ("mm", [2])],
)
def test_batches_are_cut_where_keys_come(ops: str, sizes: list[int]) -> None:
    """What stands before must not wait for what another shard owes."""
    assert [len(part) for part in parts_of([change(op) for op in ops])] == sizes


def test_what_is_no_operation_is_a_letter_and_changes_no_row() -> None:
    rejected = change("q", epoch="1:!" + "x" * 200, age="2")
    prepared = batch([change("u", age="1"), rejected])
    assert [row.values for row in prepared.rows] == [(1, 1)]
    [(refused, fault)] = prepared.faults
    assert refused is rejected
    assert "none of the operations" in fault.reason and len(fault.reason) < 200
    prepared = batch([rejected, change("u", age="x")])
    assert (list(prepared.rows), len(prepared.faults)) == ([], 2)
    assert batch([change("q", key="other:1")]).skipped == 1


def test_a_deletion_by_an_operation_minds_no_policy() -> None:
    keeping = converter(on_delete="keep")
    assert [row.kind for row in batch([change("t", epoch="1:a")], keeping).rows] == ["delete"]
    assert not batch([change("d")], keeping).rows


def test_what_stands_behind_an_operation_changes_nothing_else() -> None:
    prepared = batch([change("u", epoch="1f:a:b", age="1"), change("u", epoch="1f:c", age="2")])
    assert [row.values for row in prepared.rows] == [(1, 2)]
    assert prepared.position.epoch == 0x1F


def test_how_many_changes_each_function_had() -> None:
    plain = [change("u", name="Ada"), change("u", name="Eve"), change("u", "pet:1", name="Rex")]
    assert Batch(plain, [converter()]).counts() == {"persons": 2}
    both = [converter(), converter("p{id*}", "all", name="all")]
    assert Batch(plain, both).counts() == {"persons": 2, "all": 3}


def test_changes_that_are_dead_letters_from_the_start_count_as_had() -> None:
    """Else taking those that are refused from what a function had would take from other changes."""
    both = [converter(), converter("p{id*}", "all", name="all")]
    mixed = [change("u", name="Ada"), change("q", epoch="1:?"), change("!", epoch="1:gone"), change("m")]
    assert Batch(mixed, both).counts() == {"persons": 3, "all": 3}
