"""What a mapping takes, and what it says about mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from gears.declaring.mapping import Mapping, build

RIGHT: dict[str, Any] = {"keys": "person:{id}", "table": "persons", "columns": {"first_name": "first"}}


def problems_of(has_transform: bool = False, **changes: Any) -> list[tuple[str, str]]:
    mapping, problems = build({**RIGHT, **changes}, has_transform)
    assert (mapping is None) == bool(problems)
    return problems


def mapping_of(has_transform: bool = False, **changes: Any) -> Mapping:
    mapping, problems = build({**RIGHT, **changes}, has_transform)
    assert mapping is not None, problems
    return mapping


def test_defaults_are_those_of_the_design() -> None:
    mapping = mapping_of()
    assert mapping.policies() == {
        "on_delete": "delete",
        "on_expire": "delete",
        "on_evict": "keep",
        "on_flush": "keep",
    }
    assert (mapping.db, mapping.fields, mapping.primary_key) == (0, None, ("id",))


def test_a_list_of_columns_names_field_and_column_at_once() -> None:
    assert mapping_of(columns=["age", "first"]).columns == {"age": "age", "first": "first"}
    assert mapping_of(columns=("age",)).columns == {"age": "age"}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("keys", None, "None is not a text"),
        ("keys", "", "'' is not a text"),
        ("keys", b"person:{id}", "is not a text"),
        ("keys", "person:{id", "character 8"),
        ("table", "", "is not a text"),
        ("table", 7, "7 is not a text"),
        ("table", "a\0b", "is not a text"),
        ("table", "\ud800", "is not a text"),
        ("columns", None, "neither a dict"),
        ("columns", "first", "neither a dict"),
        ("columns", {}, "no field is mapped"),
        ("columns", [], "no field is mapped"),
        ("columns", {"first_name": 7}, "not a field's name"),
        ("columns", {7: "first"}, "not a field's name"),
        ("columns", ["a", "a"], "named twice"),
        ("columns", {"a": "x", "b": "x"}, "filled from two fields, a and b"),
        ("columns", {"number": "id"}, "filled from the key"),
        ("db", -1, "no number of a Redis database"),
        ("db", True, "no number of a Redis database"),
        ("db", "0", "no number of a Redis database"),
        ("fields", ["a"], "there is no transform"),
        ("on_delete", "ignore", '"delete" or "keep"'),
        ("on_expire", None, '"delete" or "keep"'),
        ("on_evict", True, '"delete" or "keep"'),
        ("on_flush", "DELETE", '"delete" or "keep"'),
    ],
)
def test_each_mistake_names_its_option(option: str, value: Any, words: str) -> None:
    problems = problems_of(**{option: value})
    assert [each for each, _ in problems] == [option]
    assert words in problems[0][1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operations": "yes"}, "neither true nor false"),
        ({"operations": 1}, "neither true nor false"),
        ({"operations": True, "columns": ["name", "#"]}, "no column or transform gets it"),
        ({"operations": True, "db": 1}, "database 0 alone"),
    ],
)
def test_mistakes_of_operations(options: dict[str, Any], words: str) -> None:
    [(option, message)] = problems_of(**options)
    assert option == "operations"
    assert words in message


def test_operations_are_off_unless_asked_for() -> None:
    assert not mapping_of().operations
    assert mapping_of(operations=True).operations
    assert mapping_of(columns=["#"]).columns == {"#": "#"}


def test_all_mistakes_are_found_at_once() -> None:
    problems = problems_of(keys="person:{id", table="", columns=7, db=-1, on_flush="x")
    assert [option for option, _ in problems] == ["keys", "table", "columns", "db", "on_flush"]


def test_fields_of_a_transform_are_kept_once_each() -> None:
    assert mapping_of(has_transform=True, fields=["b", "a", "b"]).fields == ("b", "a")
    assert problems_of(has_transform=True, fields="ab")[0][0] == "fields"
    assert problems_of(has_transform=True, fields=[1])[0][0] == "fields"
