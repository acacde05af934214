"""Dead letters as people and programs see them, and which are meant."""

from __future__ import annotations

import json

import pytest
import redis

from connectors import Target
from deploy.hosts.base import Deployed
from deploy.letters import retry
from deploy.letters.store import Choice, Letter, require_single
from deploy.output import CommandError
from deploy.reaching.shards import Shard
from gears.declaring.deployment import Deployment
from gears.declaring.functions import build
from tests.unit.deploy.faked import FakeHost, shards_of

TARGET = Target("env:REPORTING_DB_URL", name="reporting")
SHARD = Shard("h:1", redis.Redis(), "redis://h:1")


def letter(entry_id: str = "5-0", target: str = "reporting", **fields: bytes) -> Letter:
    return Letter(SHARD, "stream", "people", target, entry_id, fields)


def test_what_the_module_writes_itself_is_readable() -> None:
    """It has no image, no functions and no time of its own."""
    document = letter("1790000000123-0", key=b"person:1", op=b"u", reason=b"too large").document()
    assert document["image"] == {}
    assert document["functions"] == []
    assert document["at"] == "2026-09-21T14:13:20.123Z"
    assert (document["key"], document["reason"]) == ("person:1", "too large")


def test_what_is_not_utf8_survives_json() -> None:
    document = json.loads(json.dumps(letter(key=b"\xff", reason=b"\xfe").document()))
    assert document["key"] == {"base64": "/w=="}
    assert document["reason"] == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("choice", "covered"),
    [
        (Choice(), True),
        (Choice(ids=("5-0",)), True),
        (Choice(ids=("6-0",)), False),
        (Choice(ids=("6-0",), keys=("person:1",)), True),
        (Choice(deployment="people", target="reporting"), True),
        (Choice(deployment="orders"), False),
        (Choice(ids=("5-0",), target="other"), False),
    ],
)
def test_which_letters_are_meant(choice: Choice, covered: bool) -> None:
    assert choice.covers(letter(key=b"person:1")) is covered


def test_a_key_that_is_not_utf8_can_be_named() -> None:
    typed = b"person:\xff".decode("utf-8", "surrogateescape")
    assert Choice(keys=(typed,)).covers(letter(key=b"person:\xff"))


def test_an_id_in_two_lanes_has_to_be_narrowed() -> None:
    both = [letter(target="a"), letter(target="b")]
    require_single(both[:1], ("5-0",))
    with pytest.raises(CommandError, match="2 dead letters have the id 5-0") as raised:
        require_single(both, ("5-0",))
    assert "--deployment people --target a, or --deployment people --target b" in raised.value.hint


def test_a_deployment_of_a_newer_gearsync_matters_to_its_own_letters_alone() -> None:
    newer = '{"format": 99}'
    people = Deployment("people").to_payload()
    host = FakeHost(Deployed("people", 1, "active", people), Deployed("orders", 1, "active", newer))
    shards = shards_of(host)
    mine = Letter(shards.shards[0], "stream", "people", "reporting", "5-0", {"key": b"person:1"})
    assert retry._Known(shards, [mine], True).covering(mine) == []
    theirs = Letter(shards.shards[0], "stream", "orders", "reporting", "5-0", {"key": b"order:1"})
    with pytest.raises(CommandError, match="format 99"):
        retry._Known(shards, [mine, theirs], True)


def test_a_function_that_has_other_keys_by_now_says_nothing_of_the_letters_of_before() -> None:
    """Retried by where its keys are now, the letter was taken for one of a key that is gone, and deleted."""
    options = {"table": "persons", "columns": ["first"]}
    moved = {"name": "f", "keys": "other:{id}", "db": 3, "on_delete": "keep"}
    built = [
        build("write-behind", {**options, **more}, "reporting", None, "")[0]
        for more in (moved, {"name": "g", "keys": "person:{id}"})
    ]
    people = Deployment("people", 2, [each for each in built if each is not None], {"reporting": TARGET})
    shards = shards_of(FakeHost(Deployed("people", 2, "active", people.to_payload())))
    fields = {"key": b"person:1", "op": b"d", "functions": b'["f"]'}
    mine = Letter(shards.shards[0], "stream", "people", "reporting", "5-0", fields)
    known = retry._Known(shards, [mine], True)
    assert known.places(mine) == {(0, b"person:1")}
    assert known.demands_end(mine)
