"""Every way in which a plain client changes a covered key is captured, once and as it is."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Change,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    has_command,
    module_server,
    server_version,
    status,
    wait_for,
)

A: dict[str, str] = {"first": "Ada", "last": "Byron", "age": "36"}
Seen = list[tuple[str, str, dict[str, str]]]

#: name -> the commands of one write, and what the lane holds of it. person:1 is A before, other:1 a hash,
#: person:s and other:s are strings, other:set is a set.
SINGLE: dict[str, tuple[list[str], Seen]] = {
    "hset": (["HSET person:1 age 37"], [("u", "person:1", {**A, "age": "37"})]),
    "hset of a new key": (["HSET person:2 first Bob"], [("u", "person:2", {"first": "Bob"})]),
    "hset of an unmapped field": (["HSET person:2 x y"], [("u", "person:2", {})]),
    "hmset": (["HMSET person:1 age 38 last L"], [("u", "person:1", {**A, "age": "38", "last": "L"})]),
    "hsetnx": (["HSETNX person:2 first Bob"], [("u", "person:2", {"first": "Bob"})]),
    "hsetnx in vain": (["HSETNX person:1 first Bob"], []),
    "hincrby": (["HINCRBY person:1 age 4"], [("u", "person:1", {**A, "age": "40"})]),
    "hincrbyfloat": (["HINCRBYFLOAT person:1 age 0.5"], [("u", "person:1", {**A, "age": "36.5"})]),
    "hdel of one field": (["HDEL person:1 age"], [("r", "person:1", {"first": "Ada", "last": "Byron"})]),
    "hdel of the last field": (["HDEL person:1 first last age"], [("d", "person:1", {})]),
    "hdel in vain": (["HDEL person:1 nothing"], []),
    "del": (["DEL person:1"], [("d", "person:1", {})]),
    "del in vain": (["DEL person:2"], []),
    "unlink": (["UNLINK person:1"], [("d", "person:1", {})]),
    "getdel of a string": (["GETDEL person:s"], [("d", "person:s", {})]),
    "rename": (["RENAME person:1 person:2"], [("d", "person:1", {}), ("n", "person:2", A)]),
    "rename over a covered key": (
        ["HSET person:2 age 1", "RENAME person:1 person:2"],
        [("u", "person:2", {"age": "1"}), ("d", "person:1", {}), ("n", "person:2", A)],
    ),
    "rename into coverage": (["RENAME other:1 person:2"], [("n", "person:2", {"first": "Eve"})]),
    "rename out of coverage": (["RENAME person:1 other:2"], [("d", "person:1", {})]),
    "rename of a string over a hash": (["RENAME other:s person:1"], [("d", "person:1", {})]),
    "renamenx": (["RENAMENX person:1 person:2"], [("d", "person:1", {}), ("n", "person:2", A)]),
    "renamenx in vain": (["RENAMENX other:1 person:1"], []),
    "copy": (["COPY person:1 person:2"], [("n", "person:2", A)]),
    "copy over a covered key": (["COPY other:1 person:1 REPLACE"], [("n", "person:1", {"first": "Eve"})]),
    "copy of a string over a hash": (["COPY other:s person:1 REPLACE"], [("d", "person:1", {})]),
    "move away": (["MOVE person:1 1"], [("d", "person:1", {})]),
    "set over a hash": (["SET person:1 v"], [("d", "person:1", {})]),
    "setex over a hash": (["SETEX person:1 100 v"], [("d", "person:1", {})]),
    "mset over a hash": (["MSET other:2 v person:1 v"], [("d", "person:1", {})]),
    "bitop over a hash": (["BITOP NOT person:1 other:s"], [("d", "person:1", {})]),
    "sunionstore over a hash": (["SUNIONSTORE person:1 other:set"], [("d", "person:1", {})]),
    "sinterstore of nothing over a hash": (["SINTERSTORE person:1 none"], [("d", "person:1", {})]),
    "zunionstore over a hash": (["ZUNIONSTORE person:1 1 other:set"], [("d", "person:1", {})]),
    "sort into a hash": (["SORT other:set ALPHA STORE person:1"], [("d", "person:1", {})]),
    "expire and persist": (["EXPIRE person:1 100", "PERSIST person:1"], []),
    "reading": (["HGETALL person:1", "TYPE person:1", "EXISTS person:1", "DUMP person:1"], []),
    "writing elsewhere": (["HSET other:2 first Bob", "DEL other:1", "HSET person: first Bob"], []),
    "hsetex": (["HSETEX person:1 EX 100 FIELDS 1 age 37"], [("u", "person:1", {**A, "age": "37"})]),
    "hsetex in the past": (
        ["HSETEX person:1 PXAT 1 FIELDS 1 age 37"],
        [("r", "person:1", {"first": "Ada", "last": "Byron"})],
    ),
    "hgetdel": (["HGETDEL person:1 FIELDS 1 age"], [("r", "person:1", {"first": "Ada", "last": "Byron"})]),
    "hgetdel of the last field": (["HGETDEL person:1 FIELDS 3 first last age"], [("d", "person:1", {})]),
    "hgetdel in vain": (["HGETDEL person:1 FIELDS 1 nothing"], []),
    "hgetex in the past": (
        ["HGETEX person:1 PXAT 1 FIELDS 1 age"],
        [("r", "person:1", {"first": "Ada", "last": "Byron"})],
    ),
    "delifeq of a string": (["DELIFEQ person:s v"], [("d", "person:s", {})]),
    "delex of a string": (["DELEX person:s"], [("d", "person:s", {})]),
    "msetex over a hash": (["MSETEX 2 other:2 v person:1 v"], [("d", "person:1", {})]),
}


def run(client: redis.Redis, line: str) -> Any:
    return client.execute_command(*line.split(" "))


def seen(client: redis.Redis) -> Seen:
    return [(each.op, each.key, each.image) for each in changes(client)]


@pytest.fixture
def people(client: redis.Redis) -> redis.Redis:
    """A client of a server with person:{id} deployed and the keys that SINGLE tells of, nothing waiting."""
    deploy(client)
    client.hset("person:1", items=[part for pair in A.items() for part in pair])
    client.hset("other:1", "first", "Eve")
    client.mset({"person:s": "v", "other:s": "v"})
    client.sadd("other:set", "x")
    acknowledge(client)
    return client


@pytest.mark.parametrize("name", SINGLE)
def test_a_command_is_captured(people: redis.Redis, name: str) -> None:
    lines, expected = SINGLE[name]
    for command in [line.split(" ")[0] for line in lines]:
        if not has_command(people, command):
            pytest.skip(f"this server has no {command}")
    for line in lines:
        run(people, line)
    assert seen(people) == expected
    assert {each.epoch for each in changes(people)} <= {status(people)["epoch"]}


def test_a_refused_command_is_no_change(people: redis.Redis) -> None:
    refused = ["GETDEL person:1", "HINCRBY person:1 first 1", "RENAME person:9 person:1", "SADD person:1 x"]
    for line in refused:
        with pytest.raises(redis.ResponseError):
            run(people, line)
    assert seen(people) == []


def test_restore(people: redis.Redis) -> None:
    payload = people.dump("person:1") or b""
    people.restore("person:2", 0, payload)
    people.hset("person:2", "age", 99)
    people.restore("person:2", 0, payload, replace=True)
    assert seen(people) == [
        ("n", "person:2", A),
        ("u", "person:2", {**A, "age": "99"}),
        ("n", "person:2", A),
    ]


@pytest.mark.parametrize("inside", ["alone", "MULTI", "script", "script in MULTI"])
@pytest.mark.parametrize("line", ["MOVE person:1 1", "COPY person:1 person:1 DB 1"])
def test_what_comes_to_another_covered_database(people: redis.Redis, line: str, inside: str) -> None:
    """Each database is a target, so that none passes for the other one's."""
    if inside == "MULTI" and line.startswith("COPY") and server_version()[:2] == (8, 1):
        pytest.skip("Valkey 8.1 does not tell from where a COPY in MULTI is, and leaves the client there")
    functions = [Function(), Function(db=1, target="t2")]
    deploy(people, *functions, version=2, targets=["t1", "t2"])
    pipe = people.pipeline(transaction="MULTI" in inside)
    words = line.split(" ")
    if "script" in inside:
        pipe.eval("return redis.call(unpack(ARGV))", 0, *words)
    else:
        pipe.execute_command(*words)
    pipe.execute()
    assert seen(people) == ([("d", "person:1", {})] if words[0] == "MOVE" else [])
    assert [(each.op, each.key, each.image) for each in changes(people, target="t2")] == [
        ("n", "person:1", A)
    ]


@pytest.mark.parametrize("line", ["EXPIRE person:1 -1", "PEXPIREAT person:1 1"])
def test_a_time_in_the_past(people: redis.Redis, line: str) -> None:
    run(people, line)
    # Redis calls it a deletion. So did Valkey 8.0; from 8.1 on (there is no such Redis) it is an expiry.
    assert seen(people) == [("x" if server_version() >= (8, 1) else "d", "person:1", {})]


@pytest.mark.parametrize("line", ["MOVE person:1 1", "COPY person:1 person:2 DB 1"])
@pytest.mark.parametrize("transaction", [False, True], ids=["alone", "in MULTI"])
def test_a_client_stays_in_its_database(people: redis.Redis, line: str, transaction: bool) -> None:
    """Valkey 8.1 itself would leave it in the other one; a COPY in MULTI still does there."""
    if transaction and line.startswith("COPY") and server_version()[:2] == (8, 1):
        pytest.skip("Valkey 8.1 does not tell from where a COPY in MULTI is")
    with people.client() as client:
        client.hset("person:1", "age", 1)
        if transaction:
            client.execute_command("MULTI")
        client.execute_command(*line.split())
        if transaction:
            client.execute_command("EXEC")
        client.set("here", "1")
        assert people.exists("here")
        client.flushall()


def test_write_to_a_database_of_a_mapping(people: redis.Redis) -> None:
    deploy(people, Function(db=3), version=2)
    people.hset("person:1", "age", 1)
    people.execute_command("SELECT", 3)
    try:
        people.hset("person:1", "age", 2)
    finally:
        people.execute_command("SELECT", 0)
    assert seen(people) == [("u", "person:1", {"age": "2"})]


def test_active_expiry(people: redis.Redis) -> None:
    people.pexpire("person:1", 20)
    wait_for(lambda: seen(people), "the key expires")
    assert seen(people) == [("x", "person:1", {})]


@pytest.mark.parametrize("how", ["HGET person:1 first", "HSET person:1 age 5", "EXISTS person:1"])
def test_lazy_expiry(people: redis.Redis, how: str) -> None:
    people.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        people.pexpire("person:1", 25)
        wait_for(lambda: people.pttl("person:1") < 0, "the key's time is over")
        run(people, how)
        ops = [op for op, _, _ in seen(people)]
        if how.startswith("HSET"):
            assert ops in (["x", "u"], ["n"], ["x", "n"])
            assert seen(people)[-1][1:] == ("person:1", {"age": "5"})
        else:
            assert seen(people) == [("x", "person:1", {})]
    finally:
        people.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def test_eviction() -> None:
    with module_server("--maxmemory-policy", "volatile-random") as server, connect(server) as client:
        deploy(client)
        for number in range(50):
            client.hset(f"person:{number}", mapping={"first": "x" * 5000})
            client.expire(f"person:{number}", 1000)
        acknowledge(client)
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        for number in range(10):
            client.set(f"ballast:{number}", "y" * 10000)
        client.config_set("maxmemory", 0)
        evicted = changes(client)
        left = {key.decode() for key in client.scan_iter("person:*")}
        assert evicted and {each.op for each in evicted} == {"v"}
        assert {each.key for each in evicted} == {f"person:{number}" for number in range(50)} - left


def test_hash_field_expiry(people: redis.Redis) -> None:
    if not has_command(people, "hpexpire"):
        pytest.skip("this server has no expiry of hash fields")
    run(people, "HPEXPIRE person:1 10 FIELDS 1 age")
    gone = ("r", "person:1", {"first": "Ada", "last": "Byron"})
    wait_for(lambda: gone in seen(people), "the field expires")
    assert seen(people)[-1] == gone
    run(people, "HPEXPIRE person:1 10 FIELDS 2 first last")
    wait_for(lambda: not people.exists("person:1"), "the last fields expire")
    wait_for(lambda: seen(people)[-1] == ("x", "person:1", {}), "the key is gone with its fields")


def test_hash_field_expiry_in_the_past(people: redis.Redis) -> None:
    if not has_command(people, "hpexpire"):
        pytest.skip("this server has no expiry of hash fields")
    run(people, "HPEXPIREAT person:1 1 FIELDS 1 age")
    assert seen(people) == [("r", "person:1", {"first": "Ada", "last": "Byron"})]
    run(people, "HPEXPIREAT person:1 1 FIELDS 2 first last")
    assert seen(people)[-1][0] in "dx" and seen(people)[-1][1] == "person:1"


def last_states(client: redis.Redis) -> dict[str, Change]:
    return {each.key: each for each in changes(client)}


def transaction(client: redis.Redis, *lines: str) -> None:
    with client.pipeline(transaction=True) as pipe:
        for line in lines:
            pipe.execute_command(*line.split(" "))
        pipe.execute()


def test_multi(people: redis.Redis) -> None:
    transaction(
        people,
        *("HSET person:2 first a", "HSET person:2 last b", "HSET person:3 first a", "DEL person:1"),
        *("HSET person:1 age 1", "HSET person:4 first a", "DEL person:4"),
    )
    last = last_states(people)
    assert (last["person:2"].op, last["person:2"].image) == ("u", {"first": "a", "last": "b"})
    assert last["person:1"].image == {"age": "1"} and last["person:3"].image == {"first": "a"}
    assert last["person:4"].op == "d"
    assert [each.op for each in changes(people) if each.key == "person:1"] in (["n"], ["d", "u"])
    if status(people)["jobs"]:
        assert len(changes(people)) == 4


def test_multi_that_touches_keys_in_turns(people: redis.Redis) -> None:
    transaction(
        people,
        *("HSET person:2 first a", "HSET person:3 first b", "DEL person:2", "HSET person:1 age 1"),
        *("DEL person:3", "HSET person:1 age 2"),
    )
    last = last_states(people)
    assert [last[f"person:{number}"].op for number in (1, 2, 3)] == ["u", "d", "d"]
    assert last["person:1"].image == {**A, "age": "2"}
    # Nothing expired, so that a mapping which keeps expired rows but not deleted ones drops these.
    assert not [each for each in changes(people) if each.op == "x"]


def test_discard_is_no_change(people: redis.Redis) -> None:
    connection = people.connection_pool.get_connection()
    try:
        for line in ("MULTI", "HSET person:1 age 1", "DISCARD"):
            connection.send_command(*line.split(" "))
            connection.read_response()
    finally:
        people.connection_pool.release(connection)
    assert seen(people) == [] and people.hget("person:1", "age") == b"36"


def test_watch_that_fails_is_no_change(people: redis.Redis) -> None:
    with people.pipeline(transaction=True) as pipe:
        pipe.watch("other:1")
        people.hset("other:1", "first", "Mallory")
        pipe.multi()
        pipe.execute_command("HSET", "person:1", "age", 1)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert seen(people) == []


LUA = """
redis.call('HSET', 'person:2', 'first', 'a', 'last', 'b')
redis.call('HINCRBY', 'person:1', 'age', 1)
redis.call('DEL', 'person:2')
return redis.call('HSET', 'person:3', 'first', 'c')
"""


def check_script(people: redis.Redis) -> None:
    last = last_states(people)
    assert (last["person:1"].op, last["person:1"].image) == ("u", {**A, "age": "37"})
    assert last["person:2"].op == "d" and last["person:3"].image == {"first": "c"}


def test_script(people: redis.Redis) -> None:
    people.eval(LUA, 0)
    check_script(people)


def test_script_that_fails_half_way(people: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        people.eval("redis.call('HSET', 'person:1', 'age', 1) redis.call('SADD', 'person:1', 'x')", 0)
    assert seen(people) == [("u", "person:1", {**A, "age": "1"})]


def test_function(people: redis.Redis) -> None:
    if not has_command(people, "fcall"):
        pytest.skip("this server has no functions")
    body = f"redis.register_function('write', function() {LUA} end)"
    people.execute_command("FUNCTION", "LOAD", "REPLACE", f"#!lua name=lib\n{body}")
    people.execute_command("FCALL", "write", 0)
    check_script(people)


def test_any_bytes(people: redis.Redis) -> None:
    key, value = b"person:\x00\xff\r\n", bytes(range(256))
    people.hset(key, "first", value)
    assert seen(people) == [("u", key.decode("latin-1"), {"first": value.decode("latin-1")})]


def test_without_a_deployment_nothing_is_captured(client: redis.Redis) -> None:
    client.hset("person:1", "age", "1")
    client.rename("person:1", "person:2")
    client.delete("person:2")
    assert client.keys("*") == []


def test_recapture(people: redis.Redis) -> None:
    assert people.execute_command("GEARSYNC.RECAPTURE", "person:1", "person:9", "other:1") == 2
    assert seen(people) == [("r", "person:1", A), ("d", "person:9", {})]
