"""Which functions clash, in one deployment and between two."""

from __future__ import annotations

import pytest

from connectors import Target
from deploy.checks import clashes
from deploy.checks.findings import Findings
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import build
from gears.declaring.patterns import Around, Pattern, Reading

REPORTING = Target("env:REPORTING_DB_URL", name="reporting")


def function(name: str, keys: str, columns: list[str], table: str = "persons", db: int = 0) -> Function:
    mapping, problems = build({"keys": keys, "table": table, "columns": columns, "db": db}, False)
    assert mapping is not None, problems
    return Function(name, mapping, "reporting", None, f"functions.py:{name}")


def deployment(name: str, *functions: Function, target: Target = REPORTING) -> Deployment:
    return Deployment(name, 1, list(functions), {"reporting": target})


def within(*functions: Function) -> Findings:
    findings = Findings()
    clashes.check_within(deployment("people", *functions), findings)
    return findings


def between(one: Deployment, *others: Deployment) -> Findings:
    findings = Findings()
    clashes.check_with_others(one, others, findings)
    return findings


def test_one_column_from_the_same_keys_twice_is_a_mistake() -> None:
    findings = within(function("a", "person:{id}", ["x", "y"]), function("b", "person:{id}", ["y", "x", "z"]))
    [mistake] = findings.mistakes
    assert mistake.where() == "functions.py:b, b, columns"
    assert "a (functions.py:a) writes the same columns y, x of persons" in mistake.message
    assert findings.warnings == []


def test_other_columns_from_the_same_keys_are_fine() -> None:
    findings = within(function("a", "person:{id}", ["x"]), function("b", "person:{id}", ["y"]))
    assert (findings.mistakes, findings.warnings) == ([], [])


@pytest.mark.parametrize(
    "other",
    [
        function("b", "people:{id}", ["x"]),
        function("b", "person:{id}", ["x"], db=1),
    ],
    ids=["other prefix", "other db"],
)
def test_one_table_from_other_keys_is_a_warning(other: Function) -> None:
    findings = within(function("a", "person:{id}", ["x"]), other)
    assert findings.mistakes == []
    [warning] = findings.warnings
    assert warning.where() == "functions.py:b, b, table"


def test_other_tables_never_clash() -> None:
    findings = within(function("a", "person:{id}", ["x"]), function("b", "person:{id}", ["x"], table="pets"))
    assert (findings.mistakes, findings.warnings) == ([], [])


def test_a_column_that_another_deployment_writes_is_a_mistake_whatever_the_keys() -> None:
    mine = deployment("people", function("a", "person:{id}", ["x", "y"]))
    theirs = deployment("crm", function("c", "customer:{id}", ["y"]))
    [mistake] = between(mine, theirs).mistakes
    assert "the deployment crm (function c) already writes the column y of persons" in mistake.message
    assert "gearsync undeploy crm" in mistake.message


def test_an_upgrade_does_not_clash_with_itself() -> None:
    mine = deployment("people", function("a", "person:{id}", ["x"]))
    assert between(mine, mine).mistakes == []


def test_two_references_to_one_database_are_one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = deployment("people", function("a", "person:{id}", ["x"]))
    other = Target("env:OTHER_DB_URL", name="reporting")
    theirs = deployment("crm", function("c", "customer:{id}", ["x"]), target=other)
    monkeypatch.setenv("REPORTING_DB_URL", "postgresql://u:p@db/one")
    monkeypatch.setenv("OTHER_DB_URL", "postgresql://u:p@db/two")
    assert between(mine, theirs).mistakes == []
    monkeypatch.setenv("OTHER_DB_URL", "postgresql://u:p@db/one")
    assert len(between(mine, theirs).mistakes) == 1
    monkeypatch.delenv("OTHER_DB_URL")
    assert between(mine, theirs).mistakes == []


def test_another_schema_is_another_table() -> None:
    mine = deployment("people", function("a", "person:{id}", ["x"]))
    elsewhere = Target("env:REPORTING_DB_URL", name="reporting", schema="archive")
    theirs = deployment("crm", function("c", "customer:{id}", ["x"]), target=elsewhere)
    assert between(mine, theirs).mistakes == []


def test_a_copy_that_expires_must_not_take_the_row_of_another_deployment_with_it() -> None:
    def found(one: Deployment, *others: Deployment) -> list[tuple[str, str]]:
        findings = Findings()
        clashes.check_expiry(one, others, findings)
        return [(mistake.option, mistake.message) for mistake in findings.mistakes]

    def writing(**options: str) -> Deployment:
        made, _ = build({"keys": "person:{id}", "table": "persons", "columns": ["x"], **options}, False)
        assert made is not None
        return deployment("writing", Function("w", made, "reporting"))

    def copying(pattern: Pattern, keys: str = "person:{number}") -> Deployment:
        mapping = function("c", keys, ["x"], "others").mapping
        return deployment("copying", Function("c", mapping, "reporting", pattern=pattern))

    for pattern in (Reading(ttl=60), Around(on_change="refresh", ttl=60)):
        [(option, message)] = found(copying(pattern), writing())
        assert (option, "writing (function w) deletes the row" in message) == ("ttl", True)
        [(option, message)] = found(writing(), copying(pattern))
        assert (option, "copying (function c) loads rows" in message) == ("on_expire", True)
    assert found(copying(Reading(ttl=60)), writing(on_expire="keep")) == []
    assert found(writing(on_expire="keep"), copying(Reading(ttl=60))) == []
    assert found(copying(Reading()), writing()) == found(copying(Reading(ttl=60), "p:{id}"), writing()) == []
    # An upgrade takes the place of what is there.
    assert found(deployment("writing", *copying(Reading(ttl=60)).functions), writing()) == []
