"""Waves, groups and their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors import RowOp, Table
from connectors.postgres.connector import array_text
from connectors.rows import groups, waves
from connectors.writing.order import in_order

ROWS = st.lists(
    st.builds(
        lambda table, kind, key: RowOp(table, kind, () if kind == "clear" else (key,)),
        st.sampled_from("ab"),
        st.sampled_from(["upsert", "delete", "upsert", "upsert", "clear"]),
        st.integers(0, 3),
    ),
    max_size=30,
)


@given(ROWS)
def test_waves_keep_the_order_of_each_row(rows: list[RowOp]) -> None:
    found = waves(rows)
    flat = [row for wave in found for row in wave]
    assert sorted(map(id, flat)) == sorted(map(id, rows))
    for wave in found:
        assert len({(row.table, row.key) for row in wave}) == len(wave)
    place = {id(row): index for index, wave in enumerate(found) for row in wave}
    for index, row in enumerate(rows):
        for later in rows[index + 1 :]:
            same = row.table == later.table and (row.key == later.key or "clear" in (row.kind, later.kind))
            if same:
                assert place[id(row)] < place[id(later)]


def test_rows_without_repetition_are_one_wave_and_one_group() -> None:
    rows = [RowOp("t", "upsert", (i,), ("id", "a"), (i, 0)) for i in range(10)]
    assert [len(wave) for wave in waves(rows)] == [10]
    assert [len(group.rows) for group in groups(rows)] == [10]
    rows[3].nulls = ("b",)
    rows[4].defaults = ("b",)
    rows[5].columns = ("id",)
    assert [len(group.rows) for group in groups(rows)] == [7, 1, 1, 1]


def test_order_of_tables() -> None:
    parents = {"city": [], "street": ["city"], "house": ["street", "house"], "alone": []}
    tables = {name: Table(name, {}, ("id",), [], above) for name, above in parents.items()}
    rows = [
        RowOp(name, kind, (1,))
        for kind in ("upsert", "delete")
        for name in ("house", "city", "street", "alone")
    ]
    for key, row in enumerate(rows):
        row.key = (key,)
    found = [(group.kind, group.table) for group in in_order(groups(rows), tables.__getitem__)]
    assert found.index(("delete", "house")) < found.index(("upsert", "city"))
    upserts = [table for kind, table in found if kind == "upsert"]
    assert upserts.index("city") < upserts.index("street") < upserts.index("house")
    assert found[-2:] == [("delete", "street"), ("delete", "city")]


def test_tables_that_refer_to_each_other_have_an_order_too() -> None:
    tables = {"a": Table("a", {}, ("id",), [], ["b"]), "b": Table("b", {}, ("id",), [], ["a"])}
    rows = [RowOp(name, kind, (kind,)) for name in "ab" for kind in ("upsert", "delete")]
    assert len(in_order(groups(rows), tables.__getitem__)) == 4


def test_array_text() -> None:
    assert array_text([1, -2]) == "{1,-2}"
    assert array_text(["a", "", "b c"]) == '{"a","","b c"}'
    assert array_text(["NULL", None, 'q"\\']) == '{"NULL",NULL,"q\\"\\\\"}'
    assert array_text([None, None]) == "{NULL,NULL}"
    assert array_text([1, None]) == '{"1",NULL}'
    assert array_text([b"\x00\xff", b""]) == '{"\\\\x00ff","\\\\x"}'
