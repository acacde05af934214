"""Documents of the JSON type are captured by whatever changes them (those in strings: test_kinds.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.choice import redisjson
from tests.integration.module.documents import json_type, kinds
from tests.integration.module.driving import (
    Function,
    changes,
    connect,
    deploy,
    drop,
    has_command,
    module_server,
    server_version,
)
from tests.servers import RedisServer

Seen = list[tuple[str, str, object]]
KINDS = [
    Function("doc:{id}", type="JSON"),
    Function("set:{id}", type="SET"),
    Function("hash:{id}", ["name"]),
]
WHOLE = '{"a":1,"b":[1,2],"s":"x","t":true}'


def doc(text: str, op: str = "r", key: str = "doc:1") -> tuple[str, str, object]:
    return op, key, json.loads(text)


def second(text: str) -> tuple[str, str, object]:
    return doc(text, key="doc:2")


def gone(key: str = "doc:1", op: str = "d") -> tuple[str, str, object]:
    return op, key, None


def before(*states: tuple[str, str, object]) -> Seen:
    """Return what a unit leaves besides its end: nothing where a server tells when it is over."""
    return [] if server_version() >= (7, 2) else list(states)


#: name -> the commands, and what the lane holds of them. Before: doc:1 is WHOLE, doc:2 [1].
CASES: dict[str, tuple[list[str], Seen]] = {
    "set": (["JSON.SET doc:3 $ {}", "JSON.SET doc:1 $ null"], [doc("{}", key="doc:3"), doc("null")]),
    "del": (["JSON.DEL doc:1"], [gone()]),
    "del of a path that is all": (["JSON.DEL doc:1 $"], [gone()]),
    "del of nothing": (["JSON.DEL doc:9", "DEL doc:9"], []),
    "the server's own del": (["DEL doc:1", "UNLINK doc:2"], [gone(), gone("doc:2")]),
    "del and set": (["MULTI", "JSON.DEL doc:1", "JSON.SET doc:1 $ 2", "EXEC"], [*before(gone()), doc("2")]),
    "set and del": (["MULTI", "JSON.SET doc:1 $ 2", "JSON.DEL doc:1", "EXEC"], [*before(doc("2")), gone()]),
    "rename": (["RENAME doc:1 doc:3"], [gone(), doc(WHOLE, "n", "doc:3")]),
    "rename out": (["RENAME doc:1 other:1"], [gone()]),
    "copy": (["COPY doc:1 doc:3"], [doc(WHOLE, "n", "doc:3")]),
    "copy over": (["COPY doc:1 doc:2 REPLACE"], [doc(WHOLE, "n", "doc:2")]),
    "move": (["MOVE doc:1 1"], [gone()]),
    "set by the server's own": (["SET doc:1 7"], [doc("7")]),
    "expire in the past": (["EXPIREAT doc:1 1"], [gone(op="x" if server_version() >= (8, 1) else "d")]),
    "expire to come": (["EXPIRE doc:1 100", "PERSIST doc:1"], []),
    "recapture": (["GEARSYNC.RECAPTURE doc:1 doc:9"], [doc(WHOLE), gone("doc:9")]),
    "backfill": (["GEARSYNC.BACKFILL doc:1 doc:9"], [doc(WHOLE)]),
    # What a mapping does not take is not there for it; that it never was, nobody can tell.
    "keys of others": (
        ["JSON.SET set:1 $ 1", "JSON.SET hash:1 $ 1", "JSON.SET other:1 $ 1"],
        [gone("set:1"), gone("hash:1")],
    ),
}
#: Those of which the tests' own module has not the commands, or takes no part of a document.
WHOLE_MODULE: dict[str, tuple[list[str], Seen]] = {
    "set of a path": (
        ["JSON.SET doc:1 $.a 5", "JSON.SET doc:2 [0] 2"],
        [doc(WHOLE.replace("1", "5", 1)), second("[2]")],
    ),
    "set in vain": (["JSON.SET doc:1 $ 1 NX", "JSON.SET doc:9 $ 1 XX"], []),
    "del of a path": (["JSON.DEL doc:2 $[0]"], [second("[]")]),
    "forget": (["JSON.FORGET doc:1"], [gone()]),
    "numbers": (
        ["JSON.NUMINCRBY doc:2 $[0] 2", "JSON.NUMMULTBY doc:2 [0] 2"],
        [second("[3]"), second("[6]")],
    ),
    "arrappend": (["JSON.ARRAPPEND doc:2 $ 2 3"], [second("[1,2,3]")]),
    "arrinsert": (["JSON.ARRINSERT doc:2 $ 0 0"], [second("[0,1]")]),
    "arrpop": (["JSON.ARRPOP doc:2 $"], [second("[]")]),
    "arrtrim": (["JSON.ARRTRIM doc:1 $.b 0 0"], [doc(WHOLE.replace("1,2", "1"))]),
    "strappend": (["JSON.STRAPPEND doc:1 $.s 'y'"], [doc(WHOLE.replace('"x"', '"xy"'))]),
    "toggle": (["JSON.TOGGLE doc:1 $.t"], [doc(WHOLE.replace("true", "false"))]),
    "clear": (["JSON.CLEAR doc:1 $.b", "JSON.CLEAR doc:2"], [doc(WHOLE.replace("1,2", "")), second("[]")]),
    "merge": (
        ["JSON.MERGE doc:2 $ {}", "JSON.MERGE doc:1 $ {'a':null}"],
        [second("{}"), doc(WHOLE.replace('"a":1,', ""))],
    ),
    "mset": (["JSON.MSET doc:1 $ 1 doc:2 $ 2 other:1 $ 3"], [doc("1"), second("2")]),
}


@pytest.fixture(scope="module", params=kinds())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with module_server(*json_type(tmp_path_factory.mktemp("documents"), request.param)) as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server where KINDS are deployed, and nothing waits."""
    with connect(server) as client:
        client.flushall()
        deploy(client, *KINDS)
        client.execute_command("JSON.SET", "doc:1", "$", WHOLE)
        client.execute_command("JSON.SET", "doc:2", "$", "[1]")
        drop(client)
        yield client


def seen(client: redis.Redis) -> Seen:
    return [
        (each.op, each.key, json.loads(each.image["$"]) if each.image else None) for each in changes(client)
    ]


@pytest.mark.parametrize("case", [*CASES, *(WHOLE_MODULE if redisjson() else ())])
def test_a_command_is_captured(client: redis.Redis, case: str) -> None:
    commands, expected = CASES.get(case) or WHOLE_MODULE[case]
    for command in commands:
        words = command.replace("'", '"').split()
        if words[0] == "JSON.MERGE" and not has_command(client, "JSON.MERGE"):
            pytest.skip("the module has no such command")
        client.execute_command(*words)
    assert seen(client) == expected


def test_a_document_that_is_restored_is_captured(client: redis.Redis) -> None:
    dumped: Any = client.dump("doc:1")
    client.restore("doc:3", 0, dumped)
    client.restore("doc:2", 0, dumped, replace=True)
    assert seen(client) == [doc(WHOLE, "n", "doc:3"), doc(WHOLE, "n", "doc:2")]


def test_a_document_whose_time_is_over_is_captured(client: redis.Redis) -> None:
    client.pexpire("doc:1", 5)
    client.execute_command("DEBUG", "SLEEP", "0.02")
    assert client.exists("doc:1") == 0
    assert seen(client) == [gone(op="x")]


def test_a_script_is_one_unit_with_its_documents(client: redis.Redis) -> None:
    script = 'redis.call("JSON.SET", KEYS[1], "$", "3") return redis.call("JSON.DEL", KEYS[2])'
    client.eval(script, 2, "doc:1", "doc:2")
    assert seen(client) == [doc("3"), gone("doc:2")]


def test_a_refused_command_is_no_change(client: redis.Redis) -> None:
    client.set("doc:3", "7")
    drop(client)
    for command in ("JSON.SET doc:3 $ 1", "JSON.DEL doc:3"):
        with pytest.raises(redis.ResponseError):
            client.execute_command(*command.split())
    assert seen(client) == []
