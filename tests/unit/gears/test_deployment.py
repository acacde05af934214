"""A deployment's payload and the arguments of its GEARSYNC.DEPLOY."""

from __future__ import annotations

import json

import pytest

from connectors import Target
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError, PayloadError
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from gears.declaring.together import check_together


def function(name: str, transform_name: str | None = None, **options: object) -> Function:
    written = {"keys": f"{name}:{{id}}", "table": name, "columns": {"n": "name", "a": "age"}, **options}
    mapping, problems = build(written, transform_name is not None)
    assert mapping is not None, problems
    return Function(name, mapping, "reporting", transform_name, "functions.py:1")


def deployment(*functions: Function, **settings: object) -> Deployment:
    targets = {"reporting": Target("env:REPORTING_DB_URL", name="reporting", schema="sales")}
    return Deployment("people", 7, list(functions), targets, **settings)  # type: ignore[arg-type]


def test_a_payload_gives_the_same_deployment_again() -> None:
    made = deployment(
        function("pets", "louder", db=2, fields=["é", "x"], on_flush="delete"),
        function("persons"),
        batch=3,
        interval_ms=0,
        backlog_entries=5,
        backlog_bytes=6,
        on_full="grow",
        worker="external",
        requirements=["a==1"],
        wheels={"a-1-py3-none-any.whl": "0" * 64},
        source="x = 1",
        source_name="functions.py",
    )
    again = Deployment.from_payload(made.to_payload())
    assert again.to_payload() == made.to_payload()
    assert again.deploy_arguments() == made.deploy_arguments()
    assert again.targets["reporting"].reference == "env:REPORTING_DB_URL"
    assert again.targets["reporting"].schema == "sales"
    assert again.functions[0].mapping == made.functions[0].mapping


def test_the_arguments_are_those_of_the_design() -> None:
    made = deployment(
        function("persons"),
        function("all", "f", keys="all:{id*}", db=3, on_flush="delete"),
        lanes=2,
        on_full="grow",
        worker="external",
    )
    assert made.deploy_arguments() == [
        b"people", b"7", b"LANES", b"2", b"BACKLOG", b"10000000", b"0", b"GROW", b"WORKER", b"EXTERNAL",
        b"PAYLOAD", made.to_payload().encode(), b"TARGETS", b"1", b"reporting", b"FUNCTIONS", b"2",
        b"reporting", b"0", b"persons:{id}", b"KEEP", b"NAMED", b"persons", b"2", b"n", b"a",
        b"reporting", b"3", b"all:{id*}", b"DELETE", b"NAMED", b"all", b"-1",
    ]  # fmt: skip


def test_only_the_reference_of_a_target_is_in_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORTING_DB_URL", "postgresql://me:hunter2@db/x")
    made = deployment(function("persons"))
    assert "hunter2" not in made.to_payload() + repr(made)
    assert json.loads(made.to_payload())["targets"] == {
        "reporting": {"url": "env:REPORTING_DB_URL", "schema": "sales"}
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=99), "install the newer gearsync"),
        (lambda d: d["functions"][0].update(kind="write-behold"), "write-behold function"),
        (lambda d: d["functions"][0].update(keys="x"), "no {name}"),
        (lambda d: d.pop("targets"), "damaged"),
        (lambda d: d.update(lanes=None), "damaged"),
    ],
)
def test_a_payload_that_can_not_be_read_says_why(change: object, words: str) -> None:
    document = json.loads(deployment(function("persons")).to_payload())
    change(document)  # type: ignore[operator]
    with pytest.raises(PayloadError, match=words):
        Deployment.from_payload(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff"])
def test_what_is_no_payload_is_refused(text: str) -> None:
    with pytest.raises(PayloadError):
        Deployment.from_payload(text)


def test_transforms_come_out_of_the_source() -> None:
    made = deployment(
        function("pets", "louder"), function("persons"), source="def louder(c):\n    return c\n"
    )
    assert list(made.transforms()) == ["pets"]
    with pytest.raises(DeclarationError, match="defines no callable quieter"):
        deployment(function("pets", "quieter"), source="x = 1", source_name="functions.py").transforms()
    assert deployment(function("persons"), source="1/0").transforms() == {}


def test_operations_are_named_only_where_they_are_set() -> None:
    """What older versions stored is what functions without operations are today."""
    plain = deployment(function("persons"))
    assert "operations" not in plain.to_payload()
    assert b"OPERATIONS" not in plain.deploy_arguments()
    made = deployment(function("persons", operations=True))
    assert made.deploy_arguments()[-8:-3] == [b"persons:{id}", b"KEEP", b"OPERATIONS", b"NAMED", b"persons"]
    again = Deployment.from_payload(made.to_payload())
    assert again.functions[0].mapping.operations
    assert not Deployment.from_payload(plain.to_payload()).functions[0].mapping.operations


def test_two_functions_of_the_same_keys_agree_about_operations() -> None:
    one = function("persons", keys="p:{id}", operations=True)
    other = function("others", keys="p:{id}")
    [mistake] = check_together(deployment(one, other), "functions.py")
    assert (mistake.function, mistake.option) == ("persons", "operations")
    assert check_together(deployment(one, function("more", keys="q:{id}")), "functions.py") == []


def test_functions_of_one_target_have_their_keys_in_one_database() -> None:
    """A change does not say of which database it is, so that each write would be applied for both."""
    one = function("persons", keys="p:{id}")
    other = function("others", keys="p:{rest*}", db=1)
    [mistake] = check_together(deployment(one, other), "functions.py")
    assert (mistake.function, mistake.option) == ("others", "db")
    assert "persons has the same keys in database 0, and this one in 1" in mistake.message
    assert check_together(deployment(one, function("more", keys="q:{id}", db=1)), "functions.py") == []
    elsewhere = Function("others", other.mapping, "second")
    targets = {name: Target("env:DB_URL", name=name) for name in ("reporting", "second")}
    made = Deployment("people", functions=[one, elsewhere], targets=targets)
    assert check_together(made, "functions.py") == []


def test_a_flush_of_one_database_clears_no_table_of_another() -> None:
    one = function("persons", keys="p:{id}", on_flush="delete")
    other = function("others", keys="q:{id}", db=1, on_flush="delete")
    [mistake] = check_together(deployment(one, other), "functions.py")
    assert (mistake.function, mistake.option) == ("others", "on_flush")
    kept = function("others", keys="q:{id}", db=1)
    assert check_together(deployment(one, kept), "functions.py") == []
