"""Transactions that stay whole: which changes of a lane belong together, as their entries say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    PLAIN_AOF,
    Function,
    changes,
    connect,
    deploy,
    deploy_arguments,
    module_server,
    server_version,
    status,
    wait_for,
)
from tests.servers import RedisServer

SCRIPT = "for _, key in ipairs(KEYS) do redis.call('HSET', key, 'first', ARGV[1]) end"
LIBRARY = "#!lua name=g\nredis.register_function('f', function(keys) redis.call('HSET', keys[1], 'age', 1) "
LIBRARY += "redis.call('DEL', keys[2]) end)"


@pytest.fixture(scope="module")
def jobs(shared_server: RedisServer) -> bool:
    """Whether the server captures at the end of a unit."""
    with connect(shared_server) as client:
        return bool(status(client)["jobs"])


@pytest.fixture
def whole(client: redis.Redis) -> redis.Redis:
    deploy(client, Function(), Function("flushed:{id}", flush="DELETE"), whole=True)
    return client


def units(client: redis.Redis, target: str = "t1") -> list[list[str]]:
    """Return the operations and keys of a lane, those of one transaction together."""
    found: list[list[str]] = []
    for change in changes(client, target=target):
        if not change.goes_on:
            found.append([])
        found[-1].append(change.op + change.key)
    return found


def transact(client: redis.Redis, *commands: tuple[Any, ...]) -> None:
    with client.pipeline(transaction=True) as pipe:
        for words in commands:
            pipe.execute_command(*words)
        pipe.execute(raise_on_error=False)


def hset(number: int, value: str = "x") -> tuple[Any, ...]:
    return "HSET", f"person:{number}", "first", value


def test_transactions_and_scripts_in_one_pipeline(whole: redis.Redis) -> None:
    """Where one ends and the next begins, and what stands alone; refused and uncovered writes are no part."""
    with whole.pipeline(transaction=False) as pipe:
        pipe.execute_command("MULTI")
        pipe.execute_command(*hset(1)), pipe.execute_command(*hset(2))
        pipe.execute_command("EXEC")
        pipe.execute_command("MULTI")
        pipe.execute_command(*hset(3)), pipe.execute_command("LPUSH", "person:3", 1)
        pipe.execute_command("SET", "other", 1), pipe.execute_command("DEL", "person:1")
        pipe.execute_command("EXEC")
        pipe.eval(SCRIPT, 2, "person:4", "person:5", "x")
        pipe.eval(SCRIPT, 2, "person:6", "person:7", "y")
        pipe.execute_command(*hset(8)), pipe.execute_command(*hset(9))
        pipe.execute(raise_on_error=False)
    assert units(whole) == [
        ["uperson:1", "uperson:2"],
        ["uperson:3", "dperson:1"],
        ["uperson:4", "uperson:5"],
        ["uperson:6", "uperson:7"],
        ["uperson:8"],
        ["uperson:9"],
    ]


def test_a_script_in_a_transaction_is_part_of_it(whole: redis.Redis) -> None:
    transact(whole, hset(1), ("EVAL", SCRIPT, 2, "person:2", "person:3", "x"), hset(4))
    assert units(whole) == [["uperson:1", "uperson:2", "uperson:3", "uperson:4"]]


def test_watch_that_aborts_leaves_nothing_open(whole: redis.Redis) -> None:
    with whole.pipeline(transaction=True) as pipe:
        pipe.watch("person:1")
        whole.execute_command(*hset(1))
        pipe.multi()
        pipe.execute_command(*hset(2)), pipe.execute_command(*hset(3))
        with pytest.raises(redis.WatchError):
            pipe.execute()
    transact(whole, hset(4), hset(5))
    assert units(whole) == [["uperson:1"], ["uperson:4", "uperson:5"]]


def test_a_library_function(whole: redis.Redis) -> None:
    if server_version() < (7, 0):
        pytest.skip("FCALL is of Redis 7")
    whole.execute_command(*hset(2))
    whole.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    whole.execute_command("FCALL", "f", 2, "person:1", "person:2")
    assert units(whole) == [["uperson:2"], ["uperson:1", "dperson:2"]]


def test_a_key_that_expires_inside(whole: redis.Redis) -> None:
    """Its end is one of the things that the transaction did; one that time takes outside stands alone."""
    whole.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    transact(whole, hset(1), ("PEXPIRE", "person:1", 25), hset(2), ("PEXPIRE", "person:2", 25))
    wait_for(lambda: whole.pttl("person:1") == -2, "its end")
    before = len(changes(whole))
    transact(whole, hset(3), ("GET", "person:2"), hset(4))
    inside = [each for each in changes(whole)[before:] if each.goes_on]
    assert {each.key for each in inside} >= {"person:4"} and len(inside) >= 1
    assert sorted(key for unit in units(whole)[1:] for key in unit)[-1] == "xperson:2"
    whole.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    transact(whole, hset(5), ("PEXPIRE", "person:5", 25), hset(6), ("PEXPIRE", "person:6", 25))
    wait_for(lambda: sum(each.op == "x" for each in changes(whole)) == 4, "the ends that time brings")
    assert units(whole)[-2:] in ([["xperson:5"], ["xperson:6"]], [["xperson:6"], ["xperson:5"]])


def test_one_command_of_several_keys(whole: redis.Redis, jobs: bool) -> None:
    """Without a job at the end of a unit there is nothing to know it by."""
    whole.execute_command(*hset(1)), whole.execute_command(*hset(2))
    whole.rename("person:1", "person:3")
    whole.delete("person:2", "person:3")
    found = units(whole)[2:]
    together = [["dperson:1", "nperson:3"], ["dperson:2", "dperson:3"]]
    assert found == (together if jobs else [[each] for unit in together for each in unit])


def test_flush_inside(whole: redis.Redis, jobs: bool) -> None:
    """What it takes, and what is written after it, is one transaction; the next one is another."""
    transact(whole, hset(1), ("FLUSHALL",), hset(2))
    transact(whole, ("FLUSHALL",), hset(3), ("FLUSHALL",))
    whole.execute_command(*hset(4))
    transact(whole, ("FLUSHALL",))
    whole.execute_command(*hset(5))
    found = units(whole)
    assert [len(unit) for unit in found] == [3, 3, 1, 1, 1]
    assert [unit[-1][1:] for unit in found] == ["person:2", "", "person:4", "", "person:5"]


def test_databases_and_targets(client: redis.Redis) -> None:
    """SELECT in MULTI; each target has its own lane, in which what it gets stands together."""
    functions = [Function(), Function("person:{id}", db=1), Function("order:{id}", target="t2")]
    deploy(client, *functions, targets=["t1", "t2"], whole=True)
    order = ("HSET", "order:1", "first", "x")
    transact(client, hset(1), order, ("SELECT", 1), hset(1), hset(2), ("SELECT", 0), ("DEL", "order:1"))
    client.execute_command("SELECT", 0)
    kept = [each[1:] for unit in units(client) for each in unit]
    assert (len(units(client)), sorted(kept)) == (1, ["person:1", "person:1", "person:2"])
    assert {len(units(client, "t2")), len(units(client))} == {1}


def test_operations_keep_their_tickets(client: redis.Redis, jobs: bool) -> None:
    if not jobs:
        pytest.skip("operations need a server with post-notification jobs")
    deploy(client, Function(operations=True), whole=True)
    transact(client, (*hset(1), "#", "=first"), (*hset(2), "#", "=+x"), hset(3))
    found = [(each.key, each.ticket, each.goes_on) for each in changes(client)]
    assert found == [("person:1", "first", False), ("person:2", "+x", True), ("person:3", "", True)]


def test_what_is_captured_anew(whole: redis.Redis, jobs: bool) -> None:
    """In MULTI it is a transaction again; keys that a backfill brings along together are none."""
    for number in (1, 2, 3):
        whole.execute_command(*hset(number))
    before = len(units(whole))
    transact(whole, ("GEARSYNC.RECAPTURE", "person:1"), ("GEARSYNC.RECAPTURE", "person:2"))
    whole.execute_command("GEARSYNC.BACKFILL", "person:1", "person:2", "person:3")
    assert [len(unit) for unit in units(whole)[before:]] == [2, 1, 1, 1]


def test_without_the_option_nothing_is_said(client: redis.Redis) -> None:
    deploy(client)
    transact(client, hset(1), hset(2))
    deploy(client, version=2, whole=True)
    transact(client, hset(3), hset(4))
    deploy(client, version=3)
    transact(client, hset(5), hset(6))
    assert [len(unit) for unit in units(client)] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lanes": 2}, "only with one lane"),
        ({"functions": [Function(timeout_ms=100)]}, "with write-through"),
        ({"functions": [Function(type="SET")]}, "members are read later"),
    ],
)
def test_what_can_not_stay_whole(client: redis.Redis, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(redis.ResponseError, match=sentence):
        client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(whole=True, **settings))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[RedisServer, Callable[[], redis.Redis]]]:
    with module_server(*PLAIN_AOF, directory=tmp_path) as server:
        yield server, lambda: connect(server)


def test_a_restart_begins_anew(kept: tuple[RedisServer, Callable[[], redis.Redis]]) -> None:
    """Nothing goes on behind a transaction of before: there is no number that could come again."""
    server, client = kept
    with client() as before:
        deploy(before, whole=True)
        transact(before, hset(1), hset(2))
    server.restart()
    with client() as after:
        transact(after, hset(3), hset(4))
        assert units(after) == [["uperson:1", "uperson:2"], ["uperson:3", "uperson:4"]]
