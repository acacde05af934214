"""Keys that are no hashes are captured by whatever changes them: documents whole, members as a mark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.module.driving import (
    Function,
    changes,
    connect,
    deploy,
    drop,
    entries,
    lanes,
    module_server,
    server_version,
)
from tests.servers import RedisServer

VECTORS = Path(__file__).parents[2] / "vectors.json"
Seen = list[tuple[str, str, dict[str, str]]]
KINDS = [
    Function("doc:{id}", type="JSON"),
    Function("set:{id}", type="SET"),
    Function("list:{id}", type="LIST"),
    Function("zset:{id}", type="ZSET"),
    Function("hash:{id}", ["name"]),
]


def doc(text: str, op: str = "r", key: str = "doc:1") -> tuple[str, str, dict[str, str]]:
    return op, key, {"$": text}


def mark(key: str, op: str = "r") -> tuple[str, str, dict[str, str]]:
    return op, key, {}


#: name -> the commands, and what the lane holds of them. Before: doc:1 is [1], set:1 {a b}, list:1 [a b],
#: zset:1 {a: 1}, hash:1 a hash; other:s is a string "s", other:set {x}.
CASES: dict[str, tuple[list[str], Seen]] = {
    "set": (["SET doc:1 {}"], [doc("{}")]),
    "set of a new key": (["SET doc:2 {}"], [doc("{}", key="doc:2")]),
    "set in vain": (["SET doc:1 x NX"], []),
    "setex, psetex, setnx": (
        ["SETEX doc:1 100 1", "PSETEX doc:1 10000 2", "SETNX doc:2 3"],
        [doc("1"), doc("2"), doc("3", key="doc:2")],
    ),
    "getset": (["GETSET doc:1 7"], [doc("7")]),
    "append and setrange": (["APPEND doc:1 x", "SETRANGE doc:1 0 ["], [doc("[1]x"), doc("[1]x")]),
    "incr": (["SET doc:1 7", "INCR doc:1", "INCRBYFLOAT doc:1 0.5"], [doc("7"), doc("8"), doc("8.5")]),
    "mset": (["MSET doc:1 1 other:2 2 doc:2 3"], [doc("1"), doc("3", key="doc:2")]),
    "getdel": (["GETDEL doc:1"], [mark("doc:1", "d")]),
    "getex": (["GETEX doc:1 EX 100"], []),
    "del": (["DEL doc:1 set:1"], [mark("doc:1", "d"), mark("set:1", "d")]),
    "rename": (["RENAME doc:1 doc:2"], [mark("doc:1", "d"), doc("[1]", "n", "doc:2")]),
    "rename out": (["RENAME doc:1 other:1"], [mark("doc:1", "d")]),
    "rename into": (["RENAME other:s doc:2"], [doc("s", "n", "doc:2")]),
    "copy": (["COPY doc:1 doc:2", "COPY set:1 set:2"], [doc("[1]", "n", "doc:2"), mark("set:2", "n")]),
    "copy of another type": (["COPY set:1 doc:1 REPLACE"], [mark("doc:1", "d")]),
    "move": (["MOVE doc:1 1"], [mark("doc:1", "d")]),
    "a hash over a document": (["DEL doc:1", "HSET doc:1 f v"], [mark("doc:1", "d")]),
    "members that are other": (
        ["SADD doc:2 x", "SADD hash:2 x", "HSET set:2 f v", "SET hash:2 x"],
        [mark("hash:2", "d")],
    ),
    # Valkey calls it an expiry from 8.1 on (there is no such Redis).
    "expire in the past": (["EXPIREAT doc:1 1"], [mark("doc:1", "x" if server_version() >= (8, 1) else "d")]),
    "expire to come": (["EXPIRE set:1 100", "PERSIST set:1"], []),
    "sadd": (["SADD set:1 c d", "SADD set:1 c", "SADD set:2 x"], [mark("set:1"), mark("set:2")]),
    "srem": (["SREM set:1 a", "SREM set:1 b"], [mark("set:1"), mark("set:1", "d")]),
    "spop": (["SPOP set:1"], [mark("set:1")]),
    "smove": (["SMOVE set:1 set:2 a"], [mark("set:1"), mark("set:2")]),
    "sunionstore": (["SUNIONSTORE set:1 other:set"], [mark("set:1")]),
    "sinterstore of nothing": (["SINTERSTORE set:1 none"], [mark("set:1", "d")]),
    "set over a set": (["SET set:1 x"], [mark("set:1", "d")]),
    "push": (["RPUSH list:1 c", "LPUSH list:2 a"], [mark("list:1"), mark("list:2")]),
    "lset, linsert, lrem": (
        ["LSET list:1 0 x", "LINSERT list:1 BEFORE x y", "LREM list:1 0 x"],
        [mark("list:1")] * 3,
    ),
    "pop of the last": (["LPOP list:1", "RPOP list:1"], [mark("list:1"), mark("list:1", "d")]),
    "ltrim": (["LTRIM list:1 0 0", "LTRIM list:1 5 6"], [mark("list:1"), mark("list:1", "d")]),
    "sort": (["SORT other:set ALPHA STORE list:1"], [mark("list:1")]),
    "zadd": (["ZADD zset:1 2 a", "ZINCRBY zset:1 1 b"], [mark("zset:1")] * 2),
    "zrem": (
        ["ZADD zset:1 2 b", "ZREM zset:1 a", "ZREM zset:1 b"],
        [mark("zset:1")] * 2 + [mark("zset:1", "d")],
    ),
    "zpopmin": (["ZPOPMIN zset:1"], [mark("zset:1", "d")]),
    "zunionstore": (["ZUNIONSTORE zset:1 1 other:set"], [mark("zset:1")]),
    "recapture": (
        ["GEARSYNC.RECAPTURE doc:1 set:1 doc:2 list:2"],
        [doc("[1]"), mark("set:1"), mark("doc:2", "d"), mark("list:2", "d")],
    ),
    "backfill": (
        ["GEARSYNC.BACKFILL doc:1 set:1 doc:2 other:set list:2"],
        [doc("[1]"), mark("set:1")],
    ),
    # What a mapping does not take is not there for it; why that is so its own event said.
    "backfill of another type": (
        ["HSET doc:2 f v", "HSET set:2 f v", "SADD hash:2 x", "GEARSYNC.BACKFILL doc:2 set:2 hash:2"],
        [],
    ),
    "flushed": (["FLUSHALL"], []),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with module_server() as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server where KINDS are deployed, and nothing waits."""
    with connect(server) as client:
        client.flushall()
        deploy(client, *KINDS)
        for command in (
            "SET doc:1 [1]", "SADD set:1 a b", "RPUSH list:1 a b", "ZADD zset:1 1 a", "HSET hash:1 name x",
            "SET other:s s", "SADD other:set x",
        ):  # fmt: skip
            client.execute_command(*command.split())
        drop(client)
        yield client


def seen(client: redis.Redis) -> Seen:
    return [(each.op, each.key, each.image) for each in changes(client)]


def test_entries_are_those_of_the_vectors(client: redis.Redis) -> None:
    client.set("doc:1", '{"a": 1}')
    client.sadd("set:1", "c")
    vectors = {each["id"]: each for each in json.loads(VECTORS.read_text())["changes"]}
    (lane,) = lanes(client)
    for (_, pairs), vector in zip(entries(client, lane), (vectors["5-0"], vectors["5-1"])):
        expected = [bytes.fromhex(each) for each in vector["pairs_hex"]]
        # The epoch is this server's own.
        assert pairs[3][:1] == expected[3][:1]
        assert pairs[:3] + pairs[4:] == expected[:3] + expected[4:]


def test_a_backfill_is_of_the_functions_that_take_the_key(client: redis.Redis) -> None:
    deploy(client, Function("hash:{id}", type="SET"), name="beside")
    client.execute_command("GEARSYNC.BACKFILL", "hash:1")
    assert seen(client) == [("r", "hash:1", {"name": "x"})]
    assert changes(client, "beside") == []
    client.execute_command("GEARSYNC.UNDEPLOY", "beside")


@pytest.mark.parametrize("case", CASES)
def test_a_command_is_captured(client: redis.Redis, case: str) -> None:
    commands, expected = CASES[case]
    for command in commands:
        client.execute_command(*command.split())
    assert seen(client) == expected
