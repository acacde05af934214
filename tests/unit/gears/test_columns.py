"""What is done a column at a time is what is done row by row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import RowOp
from connectors.writing.blocks import grouped
from gears.applying import columns
from gears.applying.change import Change
from gears.applying.pipeline import Batch
from tests.unit.gears.batches import change, converter

IMAGES = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["a", "b", "much too long"]), "age": st.sampled_from("123x")}
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from("uuuuunrdxvt"),
        st.sampled_from(["person:", "pet:", "other:"]),
        st.sampled_from(["1", "2", "3", "03", "4", "5", "x"]),
        IMAGES,
    ),
    max_size=25,
)
FUNCTIONS = [
    [converter()],
    [converter(on_evict="delete", on_delete="keep")],
    [converter(), converter("pet:{id}", "pets"), converter("person:{id}", "names", columns=["name"])],
    [converter(), converter("pet:{id}", "persons", name="pets")],
]


def _made(entries: list[Change], functions: list[Any], few: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "FEW", few)
        batch = Batch(entries, functions)
    # Rows of two tables have no order: where the last image does not fit, blocks begin with another function.
    rows = sorted((_described(row) for row in batch.rows), key=lambda row: str(row[0]))
    waves = [
        sorted(str(_described(row)) for group in wave for row in group.rows) for wave in grouped(batch.rows)
    ]
    faults = sorted((fault[0].id, fault[1]) for fault in batch.faults)
    return rows, batch.counts(), batch.skipped, faults, waves


def _described(row: RowOp) -> Any:
    origin: Any = row.origin
    entry, by, op = origin
    return (
        *(row.table, row.kind, row.key, row.columns, row.values, row.nulls, row.defaults),
        *(entry.id, by.function.name, op, row.mark, row.resets),
    )


@settings(max_examples=80, deadline=None)
@given(CHANGES, st.sampled_from(FUNCTIONS))
def test_blocks_are_the_rows(words: list[tuple[str, str, str, dict[str, str]]], functions: list[Any]) -> None:
    entries = [
        change(op, prefix + key, **({} if op in "dxvt" else image)) for op, prefix, key, image in words
    ]
    if entries:
        assert _made(entries, functions, 1) == _made(entries, functions, 10**6)


def test_a_batch_of_one_kind_is_one_block_without_a_row_of_its_own() -> None:
    batch = Batch([change("u", f"person:{key}", name="a", age="1") for key in range(5)], [converter()])
    [block] = batch.rows.blocks
    assert block.values == [[0, 1, 2, 3, 4], ["a"] * 5, [1] * 5]
    [[group]] = grouped(batch.rows)
    assert group.rows is block


def test_rows_that_are_written_twice_keep_their_order() -> None:
    entries = [change("u", f"person:{key}", name=name) for key, name in (("1", "a"), ("2", "b"), ("01", "c"))]
    batch = Batch(entries, [converter()])
    assert [[row.values for group in wave for row in group.rows] for wave in grouped(batch.rows)] == [
        [(1, "a"), (2, "b")],
        [(1, "c")],
    ]
