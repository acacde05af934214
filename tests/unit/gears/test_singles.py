"""The rows of intents a column at a time are those that each intent has alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import RowOp
from connectors.writing.units import rows_of
from gears.applying.change import Change
from gears.applying.intents import FOLLOWS, intents_of, unit_of
from gears.applying.singles import singles_of
from tests.unit.gears.batches import converter

IMAGES = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["a", "long"]), "age": st.sampled_from("12x")}
)
WRITES = st.lists(st.tuples(st.sampled_from("UUUUUURD"), st.sampled_from("123"), IMAGES), max_size=12)


def _entry(number: int, op: str, key: str, image: dict[str, str], command: bytes = b"0 *2") -> Change:
    fields = tuple(name.encode() for name in image)
    values = [value.encode() for value in image.values()]
    return Change(b"7-%d" % number, f"person:{key}".encode(), op.encode() + b"1:" + command, fields, values)


def _said(row: RowOp) -> tuple[Any, ...]:
    return (
        row.table,
        row.kind,
        row.key,
        row.columns,
        row.values,
        row.nulls,
        row.defaults,
        row.mark,
        row.resets,
    )


@settings(max_examples=100, deadline=None)
@given(WRITES)
def test_singles_are_the_units(writes: list[tuple[str, str, dict[str, str]]]) -> None:
    intents = intents_of([_entry(number, *write) for number, write in enumerate(writes)])
    found = singles_of(intents, [converter()])
    if found is None:
        return
    alone = [unit_of(intent, [converter()]) for intent in intents]
    assert [[_said(row) for row in unit] for unit in found] == [
        [_said(row) for row in unit] for unit in alone
    ]
    assert [_said(row) for row in rows_of(found)] == [_said(row) for unit in alone for row in unit]


def test_plain_writes_are_taken_together_and_no_others() -> None:
    plain = [_entry(number, "U", str(number), {"name": "a", "age": "1"}) for number in range(4)]
    assert singles_of(intents_of(plain), [converter()]) is not None
    assert singles_of(intents_of(plain[:2]), [converter()]) is None, "too few"
    assert singles_of(intents_of(plain), [converter(), converter()]) is None, "two rows each"
    for other in (
        _entry(9, "R", "9", {"name": "a"}),
        _entry(9, "D", "9", {}),
        _entry(9, "U", "9", {"age": "x"}),
        _entry(9, "U", "9", {}, FOLLOWS),
    ):
        assert singles_of(intents_of([*plain, other]), [converter()]) is None
