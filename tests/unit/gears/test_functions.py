"""WriteBehind and what executing a file of functions collects."""

from __future__ import annotations

import pytest

from connectors import Target
from gears import Change, WriteBehind
from gears.declaring.errors import DeclarationError
from gears.declaring.executing import Collector, execute, transforms_of
from gears.declaring.functions import Function

REPORTING = Target("env:REPORTING_DB_URL", name="reporting")

FILE = """
from gears import WriteBehind, deployment_settings
from connectors import Target

reporting = Target("env:REPORTING_DB_URL", name="reporting")
deployment_settings(lanes=2)

WriteBehind("person:{id}", "persons", ["first"], reporting, transform=lambda change: None)

def shout(change):
    change.fields["first"] = change.fields["first"].upper()
    return change

WriteBehind(
    "pet:{id}", "pets", {"n": "name"}, reporting, name="pets to SQL", transform=shout, on_delete="keep",
)
"""


def function_of(**options: object) -> Function:
    declared = WriteBehind("person:{id}", "persons", {"a": "x", "b": "y"}, REPORTING, **options)  # type: ignore[arg-type]
    assert declared.function is not None
    return declared.function


def test_the_name_is_the_tables_unless_given() -> None:
    assert function_of().name == "persons"
    assert function_of(name="people").name == "people"


def test_mapped_fields_are_captured() -> None:
    assert function_of().captured_fields() == ["a", "b"]


def test_the_whole_hash_is_captured_for_a_transform_unless_fields_are_named() -> None:
    assert function_of(transform=lambda change: change).captured_fields() is None
    assert function_of(transform=lambda change: change, fields=["c", "a"]).captured_fields() == [
        "a",
        "b",
        "c",
    ]


def test_a_mistake_outside_of_a_load_is_raised_at_once_with_its_line() -> None:
    with pytest.raises(DeclarationError) as caught:
        WriteBehind("person", "persons", {}, "reporting", transform=7, name="p")  # type: ignore[arg-type]
    mistakes = caught.value.mistakes
    assert [mistake.option for mistake in mistakes] == ["keys", "columns", "target", "transform"]
    assert all(mistake.place.startswith(__file__ + ":") and mistake.function == "p" for mistake in mistakes)


def test_executing_a_file_collects_functions_settings_and_places() -> None:
    collector = Collector()
    execute(FILE, "functions.py", collector)
    functions = [each.function for each in collector.functions]
    assert [(each.name, each.place) for each in functions if each] == [
        ("persons", "functions.py:8"),
        ("pets to SQL", "functions.py:14"),
    ]
    assert collector.settings == {"lanes": 2}
    assert collector.mistakes == []


def test_mistakes_in_a_file_are_collected_and_the_file_goes_on() -> None:
    collector = Collector()
    text = (
        FILE.replace("person:{id}", "person:{id").replace('"keep"', '"maybe"')
        + "\ndeployment_settings(lanes=3)\n"
    )
    execute(text, "functions.py", collector)
    assert [mistake.where() for mistake in collector.mistakes] == [
        "functions.py:8, persons, keys",
        "functions.py:14, pets to SQL, on_delete",
        "functions.py:18",
    ]


def test_transforms_are_found_again_in_the_source_even_a_lambda() -> None:
    found, mistakes = transforms_of(FILE, "functions.py", {"persons": "<lambda>", "pets to SQL": "shout"})
    assert mistakes == []
    change = Change("pet:1", "upsert", {"first": "ada"}, {"id": "1"})
    assert found["persons"](change) is None
    shouted = found["pets to SQL"](change)
    assert shouted is not None and shouted.fields == {"first": "ADA"}


def test_a_transform_that_is_not_there_is_a_mistake() -> None:
    found, mistakes = transforms_of(FILE, "functions.py", {"cats": "purr", "dogs": "reporting"})
    assert found == {}
    assert [str(mistake) for mistake in mistakes] == [
        "functions.py, cats, transform: functions.py defines no callable purr",
        "functions.py, dogs, transform: functions.py defines no callable reporting",
    ]


def test_a_dataclass_in_the_source_works() -> None:
    text = (
        "from __future__ import annotations\nimport dataclasses\n\n@dataclasses.dataclass\nclass Row:\n    "
        "first: str\n"
    )
    assert execute(text, "functions.py", Collector())["Row"]("Ada").first == "Ada"


def test_a_change_shows_what_it_holds() -> None:
    assert repr(Change("k", "delete", {}, {"id": b"\xff"})) == "Change('k', 'delete', {}, {'id': b'\\xff'})"
