"""Loading both forms of declaration, and what is said about mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gears.declaring.config import load
from gears.declaring.errors import DeclarationError

PYTHON = """
from gears import WriteBehind, deployment_settings
from connectors import Target

reporting = Target("env:REPORTING_DB_URL", name="reporting")
deployment_settings(
    name="people", lanes=2, batch=500, interval_ms=5, worker="external", requirements=["phonenumbers>=8"],
    backlog={"entries": 1000, "bytes": 0, "on_full": "grow"},
)
WriteBehind(
    keys="person:{person_id}",
    table="persons",
    columns={"first_name": "first", "last_name": "last", "age": "age"},
    target=reporting,
    on_delete="keep",
)
WriteBehind(keys="{{{tenant}}}:pet:{pet_id*}", table="pets", columns=["name"], target=reporting, db=3)
"""

TOML = """
name = "people"
lanes = 2
batch = 500
interval_ms = 5
worker = "external"
requirements = ["phonenumbers>=8"]

[backlog]
entries = 1000
bytes = 0
on_full = "grow"

[targets.reporting]
url = "env:REPORTING_DB_URL"

[[functions]]
kind = "write-behind"
keys = "person:{person_id}"
table = "persons"
target = "reporting"
on_delete = "keep"
[functions.columns]
first_name = "first"
last_name = "last"
age = "age"

[[functions]]
kind = "write-behind"
keys = "{{{tenant}}}:pet:{pet_id*}"
table = "pets"
target = "reporting"
columns = ["name"]
db = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def mistakes_of(name: str, text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load(write(name, text))
    return [str(mistake) for mistake in caught.value.mistakes]


def test_both_forms_give_the_same_payload() -> None:
    one, other = load(write("functions.py", PYTHON)), load(write("gearsync.toml", TOML))
    assert one.to_payload() == other.to_payload()
    assert one.deploy_arguments() == other.deploy_arguments()


def test_settings_reach_the_deployment() -> None:
    deployment = load(write("functions.py", PYTHON))
    assert (deployment.name, deployment.lanes, deployment.batch, deployment.interval_ms) == (
        "people",
        2,
        500,
        5,
    )
    assert (deployment.backlog_entries, deployment.backlog_bytes, deployment.on_full) == (1000, 0, "grow")
    assert (deployment.worker, deployment.requirements) == ("external", ["phonenumbers>=8"])
    assert deployment.source == ""


def test_the_name_comes_from_the_option_then_the_file_then_its_path() -> None:
    assert load(write("functions.py", PYTHON), name="other").name == "other"
    text = PYTHON.replace('name="people", ', "")
    assert load(write("my people.v1.py", text)).name == "my_people_v1"


def test_places_are_file_and_line_in_both_forms() -> None:
    assert [each.place for each in load(write("functions.py", PYTHON)).functions] == [
        "functions.py:10",
        "functions.py:17",
    ]
    assert [each.place for each in load(write("gearsync.toml", TOML)).functions] == [
        "gearsync.toml:17",
        "gearsync.toml:28",
    ]


def test_the_source_travels_only_with_a_transform() -> None:
    text = PYTHON.replace("db=3)", "db=3, transform=lambda change: change)")
    deployment = load(write("functions.py", text))
    assert deployment.source == text
    assert deployment.source_name == "functions.py"
    assert list(deployment.transforms()) == ["pets"]


def test_a_transform_in_toml_is_a_function_of_the_source() -> None:
    write("transforms.py", "def louder(change):\n    return change\n")
    text = 'source = "transforms.py"\n' + TOML + 'transform = "louder"\n'
    deployment = load(write("gearsync.toml", text))
    assert deployment.source_name == "transforms.py"
    assert deployment.transforms()["pets"].__name__ == "louder"
    [persons, pets] = deployment.functions
    assert (persons.captured_fields(), pets.captured_fields()) == (["first_name", "last_name", "age"], None)


def test_a_transform_in_toml_that_can_not_be_found_is_a_mistake() -> None:
    assert "name the Python file" in mistakes_of("gearsync.toml", TOML + 'transform = "louder"\n')[0]
    with_source = 'source = "transforms.py"\n' + TOML + 'transform = "louder"\n'
    assert "transforms.py can't be read" in mistakes_of("gearsync.toml", with_source)[0]
    write("transforms.py", "x = 1\n")
    assert mistakes_of("gearsync.toml", with_source) == [
        "transforms.py, pets, transform: transforms.py defines no callable louder"
    ]
    write("transforms.py", "x = 1\n1/0\n")
    assert mistakes_of("gearsync.toml", with_source) == [
        "transforms.py:2: ZeroDivisionError: division by zero"
    ]


def test_every_mistake_in_python_is_listed() -> None:
    text = (
        PYTHON.replace("person:{person_id}", "person").replace('["name"]', "[]").replace("lanes=2", "lane=2")
    )
    mistakes = mistakes_of("functions.py", text)
    assert [each.split(": ")[0] for each in mistakes] == [
        "functions.py:10, persons, keys",
        "functions.py:17, pets, columns",
        "functions.py:6, lane",
    ]
    assert "did you mean lanes?" in mistakes[2]


def test_every_mistake_in_toml_is_listed() -> None:
    text = (
        TOML.replace("batch = 500", 'batch = "500"')
        .replace("on_full", "on_fill")
        .replace("on_delete", "on_delte")
        .replace('columns = ["name"]', 'collumns = ["name"]')
        .replace("url =", "uri =")
    )
    mistakes = mistakes_of("gearsync.toml", text)
    assert [each.split(": ")[0] for each in mistakes] == [
        "gearsync.toml, targets.reporting.uri",
        "gearsync.toml, targets.reporting",
        "gearsync.toml:17, persons, on_delte",
        "gearsync.toml:28, pets, collumns",
        "gearsync.toml:28, pets, columns",
        "gearsync.toml, batch",
        "gearsync.toml, backlog.on_fill",
    ]
    assert "did you mean url?" in mistakes[0]
    assert "did you mean on_delete?" in mistakes[2]
    assert "did you mean columns?" in mistakes[3]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("functions.py", "x = = 1\n", "functions.py:1: this is not Python: "),
        ("functions.py", "\nimport helpers_of_mine\n", "functions.py:2: No module named 'helpers_of_mine'"),
        ("functions.py", "\n\nraise SystemExit(3)\n", "functions.py:3: the file ends the program"),
        (
            "functions.py",
            "\nfrom gears import WriteBehind\nWriteBehind(key='x')\n",
            "functions.py:3: TypeError: ",
        ),
        ("functions.py", "x = 1\n", "functions.py: no function is declared"),
        ("gearsync.toml", "x = \n", "gearsync.toml: this is not TOML: "),
        ("gearsync.toml", "lanes = 1\n", "gearsync.toml: no function is declared"),
        ("gearsync.toml", "functions = 3\n", "gearsync.toml, functions: write each function"),
        ("gearsync.toml", "targets = 3\n", "gearsync.toml, targets: write each target"),
        (
            "gearsync.toml",
            TOML.replace("write-behind", "write-trough"),
            "gearsync.toml:17, persons, kind: 'write-tr",
        ),
        (
            "gearsync.toml",
            TOML.replace("[targets.reporting]", "[targets.'bad name']"),
            "gearsync.toml, targets.bad ",
        ),
    ],
)
def test_a_file_that_can_not_be_understood(name: str, text: str, expected: str) -> None:
    assert mistakes_of(name, text)[0].startswith(expected)


def test_a_file_that_can_not_be_read() -> None:
    with pytest.raises(DeclarationError, match=r"nothing\.py: the file can't be read: No such file"):
        load("nothing.py")
    Path("latin.py").write_bytes(b"# \xe9\n")
    with pytest.raises(DeclarationError, match=r"latin\.py: the file is not UTF-8"):
        load("latin.py")


def test_a_password_in_a_target_is_refused_and_not_repeated() -> None:
    text = PYTHON.replace("env:REPORTING_DB_URL", "postgresql://me:hunter2@db/x")
    mistakes = mistakes_of("functions.py", text)
    assert mistakes[0].startswith("functions.py:5: ")
    assert "hunter2" not in "".join(mistakes)
    with_toml = mistakes_of(
        "gearsync.toml", TOML.replace("env:REPORTING_DB_URL", "postgresql://me:hunter2@db/x")
    )
    assert with_toml[0].startswith("gearsync.toml, targets.reporting: ")
    assert "hunter2" not in "".join(with_toml)


def test_two_functions_of_one_name_are_told_apart_by_the_user() -> None:
    text = PYTHON.replace('table="pets"', 'table="persons"')
    [mistake] = mistakes_of("functions.py", text)
    assert mistake.startswith(
        "functions.py:17, persons, name: another function is called persons (functions.py:10)"
    )


def test_two_targets_of_one_name_are_a_mistake() -> None:
    text = PYTHON + 'WriteBehind("x:{id}", "x", ["a"], Target("env:OTHER", name="reporting"))\n'
    [mistake] = mistakes_of("functions.py", text)
    assert mistake.startswith("functions.py:18, x, target: two different targets are called reporting")


def test_deleting_rows_at_a_flush_needs_one_lane() -> None:
    text = PYTHON.replace('on_delete="keep"', 'on_flush="delete"')
    [mistake] = mistakes_of("functions.py", text)
    assert mistake.startswith("functions.py:10, persons, on_flush: ")
    load(write("functions.py", text.replace("lanes=2", "lanes=1")))


def test_all_lanes_of_all_targets_together_are_limited() -> None:
    text = PYTHON.replace("lanes=2", "lanes=64")
    line = 'WriteBehind("car:{{id}}", "cars", ["a"], Target("env:DB_{0}"), name="cars{0}")\n'
    [mistake] = mistakes_of("functions.py", text + "".join(line.format(number) for number in range(16)))
    assert "17 targets of 64 lanes each are too many: at most 1024 lanes" in mistake
    load(write("functions.py", text + "".join(line.format(number) for number in range(15))))


def test_a_function_with_a_target_that_is_not_there_is_told_which_there_are() -> None:
    text = TOML.replace('target = "reporting"', 'target = "reprting"', 1)
    [mistake] = mistakes_of("gearsync.toml", text)
    assert (
        mistake
        == "gearsync.toml:17, persons, target: there is no target 'reprting'; the targets are reporting"
    )


@pytest.mark.parametrize(("name", "text"), [("people.py", PYTHON), ("people.toml", TOML)])
def test_a_mark_before_utf_8_is_left_out(tmp_path: Path, name: str, text: str) -> None:
    """Some editors put it there."""
    path = tmp_path / name
    path.write_text(text, "utf-8-sig")
    assert load(str(path)).name == "people"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("deep.toml", f"name = {'[' * 5000}", "nested too deeply"),
        ("odd.py", PYTHON.replace('{"entries": 1000,', '{1000: "entries",'), "backlog.1000"),
    ],
)
def test_what_nobody_means_is_a_mistake_as_well(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DeclarationError, match=words):
        load(str(path))
