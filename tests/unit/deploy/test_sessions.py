"""What a session of RedisGears lacks of what its deployment needs."""

from __future__ import annotations

import pytest

from connectors import Target
from deploy.hosts.sessions import Reader, Session
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template

NEEDED = {
    "KeysReader person:*": "writes to keys that begin with person: are not captured",
    "StreamReader gearsync:lane:people:reporting:*": "nothing is brought to reporting",
    "StreamReader gearsync:late:people:*": "what operations do does not reach the AOF",
}


def missing(readers: list[str], operations: bool = True) -> list[str]:
    mapping = Mapping(Template("person:{id}"), "persons", {"a": "b"}, operations=operations)
    targets = {"reporting": Target("env:REPORTING_DB_URL", name="reporting")}
    deployment = Deployment("people", 1, [Function("persons", mapping, "reporting")], targets)
    places = [each.split() for each in [*readers, "KeysReader other:*"]]
    made = [Reader("1", kind, place, 0, "", True) for kind, place in places]
    return list(Session("people", 1, made, "gearsync-people-1").missing(deployment))


@pytest.mark.parametrize("gone", NEEDED)
def test_each_reader_that_is_gone_is_named(gone: str) -> None:
    [sentence] = missing([each for each in NEEDED if each != gone])
    assert sentence.startswith(NEEDED[gone])


def test_nothing_is_missing_where_all_are_there() -> None:
    assert missing(list(NEEDED)) == []
    assert missing(list(NEEDED)[:2], operations=False) == []
