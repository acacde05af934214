"""Names of fields that are no UTF-8, and what databases say at length."""

from __future__ import annotations

import json

from connectors import Refusal
from gears.applying.change import Change
from gears.applying.pipeline import faults_of, letters_of
from gears.declaring.functions import Change as SeenChange
from tests.unit.gears.batches import batch, change, converter


def binary_change() -> Change:
    """A change with two names that are alike once escaped, and one that fits a column."""
    return change("u")._replace(fields=(b"\xff", rb"\xff", b"name"), values=[b"1", b"2", b"Ada"])


def test_a_letter_keeps_names_apart_that_are_no_utf8() -> None:
    entry = binary_change()
    [letter] = letters_of([(entry, converter().fault("bad"))])
    assert json.loads(letter.fields["image"]) == {"\udcff": "1", r"\xff": "2", "name": "Ada"}


def test_a_transform_sees_them_apart_and_may_keep_them() -> None:
    seen: list[SeenChange] = []

    def keep(each: SeenChange) -> SeenChange:
        seen.append(each)
        return each

    prepared = batch([binary_change()], converter(transform=keep))
    assert list(seen[0].fields) == ["\udcff", r"\xff", "name"]
    assert [row.values for row in prepared.rows] == [(1, "Ada")]
    assert prepared.faults == []


def test_what_a_database_says_is_cut_and_names_the_column() -> None:
    [row] = batch([change("u", name="Ada")]).rows
    [(_, long), (_, short)] = faults_of(
        [Refusal(row, "x" * 100_000, "name"), Refusal(row, "no such parent", "")]
    )
    assert long.reason == "column name: " + "x" * 500 + "…"
    assert short.reason == "no such parent"
