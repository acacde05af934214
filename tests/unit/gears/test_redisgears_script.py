"""The script that is uploaded to RedisGears."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from connectors import Target
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template
from gears.redisgears import script
from gears.redisgears.names import dead_of, family, lane_prefix, session
from gears.redisgears.servers import files_wrongly


def deployment(*templates: str) -> Deployment:
    functions = [
        Function(f"f{number}", Mapping(Template(text), "persons", {"name": "name"}), "reporting")
        for number, text in enumerate(templates)
    ]
    targets = {"reporting": Target("env:REPORTING_DB_URL", name="reporting")}
    return Deployment("people", functions=functions, targets=targets)


@pytest.mark.parametrize(
    ("templates", "prefixes"),
    [
        (["person:{id}"], ["person:"]),
        (["person:admin:{id}", "person:{id}"], ["person:"]),
        (["a:{id}", "ab:{id}", "a:b:{id}"], ["a:", "ab:"]),
        (["{id}", "person:{id}"], [""]),
    ],
)
def test_no_key_begins_with_two_prefixes(templates: list[str], prefixes: list[str]) -> None:
    assert script.prefixes(deployment(*templates).capturing) == prefixes


def test_the_script_is_python_and_the_same_each_time() -> None:
    made = script.make(deployment("person:{id}"))
    assert made == script.make(deployment("person:{id}"))
    assert made != script.make(deployment("people:{id}"))
    ast.parse(made)


def test_what_runs_beside_redis_only_stays_there() -> None:
    names = set(script.sources())
    assert {"gears.applying.applier", "gears.redisgears.child", "connectors.postgres.connector"} <= names
    assert not names & {"gears.worker", "gears.worker.runner", "gears.redisgears.script"}


def imported(text: str) -> Iterator[str]:
    """Yield the modules of ours that a module imports when it is imported itself."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in ("gears", "connectors"):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_what_is_uploaded_imports_nothing_that_is_not() -> None:
    names = script.sources()
    left_out = {
        (name, each)
        for name, (_, text) in names.items()
        for each in imported(text)
        if any(each == other or each.startswith(other + ".") for other in script.LEFT_OUT)
    }
    assert left_out == set()


@pytest.mark.parametrize(
    ("version", "wrong"),
    [("6.2.16", False), ("7.2.6", False), ("7.4.0", True), ("7.9.225", True), ("8.0.1", True)],
)
def test_clusters_whose_servers_file_lanes_wrongly(version: str, wrong: bool) -> None:
    assert files_wrongly(version, True) is wrong
    assert not files_wrongly(version, False)


def test_names() -> None:
    lane = lane_prefix("people", "reporting") + "{0}:abc"
    assert lane == "gearsync:lane:people:reporting:{0}:abc"
    assert dead_of(lane) == "gearsync:dead:people:reporting:{0}:abc"
    assert session("people") == "gearsync-people"
    assert not family("people_x").startswith(family("people"))
