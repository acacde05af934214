"""The bound of a backlog: covered writes are refused at it, before anything is written; all else goes on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    deployment_status,
    lanes,
    module_server,
    server_version,
    wait_for,
)

LIMIT = 5
REFUSED = "^BACKLOG the change stream of deployment people is full, so nothing was written"


def fill(client: redis.Redis, **settings: Any) -> None:
    """Deploy with a bound of LIMIT changes and reach it."""
    deploy(client, backlog=(LIMIT, 0), **settings)
    for number in range(LIMIT):
        client.hset(f"person:{number}", "first", "Ada")


def snapshot(client: redis.Redis) -> dict[Any, Any]:
    """Return all keys with what DUMP says of each, the lanes included."""
    return {key: client.dump(key) for key in client.keys("*")}


COMMANDS = [
    ["HSET", "person:9", "first", "Eve"],
    ["HSET", "person:0", "first", "Eve", "other", "x"],
    ["HMSET", "person:0", "first", "Eve"],
    ["HSETNX", "person:9", "first", "Eve"],
    ["HINCRBY", "person:0", "age", "1"],
    ["HINCRBYFLOAT", "person:0", "age", "1.5"],
    ["HDEL", "person:0", "first"],
    ["DEL", "person:0"],
    ["DEL", "elsewhere", "person:0"],
    ["UNLINK", "person:0"],
    ["RENAME", "elsewhere", "person:9"],
    ["RENAME", "person:0", "elsewhere"],
    ["RENAMENX", "elsewhere", "person:9"],
    ["COPY", "elsewhere", "person:9"],
    ["MOVE", "person:0", "1"],
    ["SET", "person:0", "text"],
    ["MSET", "elsewhere", "x", "person:0", "text"],
    ["SUNIONSTORE", "person:0", "set"],
    ["EVAL", "return redis.call('HSET', KEYS[1], 'first', 'Eve')", "1", "person:0"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: "-".join(each[:2])[:40])
def test_a_covered_write_at_the_bound_is_refused_and_writes_nothing(
    client: redis.Redis, command: list[str]
) -> None:
    client.hset("elsewhere", "first", "Joe")
    client.sadd("set", "member")
    fill(client)
    before = snapshot(client)
    with pytest.raises(redis.ResponseError, match="BACKLOG"):
        client.execute_command(*command)
    assert snapshot(client) == before
    assert deployment_status(client)["refused_writes"] == 1
    assert deployment_status(client)["backlog"]["full"] is True


def test_exactly_the_limit_is_taken_and_a_trim_opens_it(client: redis.Redis) -> None:
    deploy(client, backlog=(LIMIT, 0))
    for number in range(LIMIT):
        client.hset("person:1", "age", number)
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match=REFUSED):
            client.hset("person:1", "age", 99)
    assert [each.image["age"] for each in changes(client)] == ["0", "1", "2", "3", "4"]
    oldest: Any = client.xrange(lanes(client)[0], count=1)
    assert client.execute_command("GEARSYNC.ACK", lanes(client)[0], oldest[0][0]) == LIMIT - 1
    client.hset("person:1", "age", 5)
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "age", 99)
    acknowledge(client)
    client.hset("person:1", "age", 6)
    assert deployment_status(client)["refused_writes"] == 4


def test_what_is_not_covered_goes_on(client: redis.Redis) -> None:
    fill(client)
    client.hset("elsewhere", "first", "Ada")
    client.set("text", "x")
    assert client.hgetall("person:0") == {b"first": b"Ada"}
    client.expire("person:0", 1000)
    client.delete("text", "elsewhere")
    assert deployment_status(client)["refused_writes"] == 0


def test_another_deployment_is_not_affected(client: redis.Redis) -> None:
    fill(client)
    deploy(client, Function("order:{id}", ["total"]), name="orders", backlog=(LIMIT, 0))
    client.hset("order:1", "total", 1)
    assert [each.key for each in changes(client, "orders")] == ["order:1"]


def test_grow_captures_beyond_the_limit(client: redis.Redis) -> None:
    fill(client, on_full="GROW")
    client.hset("person:9", "first", "Eve")
    assert len(changes(client)) == LIMIT + 1
    assert deployment_status(client)["backlog"]["full"] is False


def test_expiry_is_captured_beyond_the_limit(client: redis.Redis) -> None:
    deploy(client, backlog=(LIMIT, 0))
    client.hset("person:1", "first", "Ada")
    client.pexpire("person:1", 1)
    wait_for(lambda: not client.exists("person:1"), "the expiry")
    for number in range(2, LIMIT):
        client.hset(f"person:{number}", "first", "Ada")
    client.pexpire("person:2", 1)
    wait_for(lambda: not client.exists("person:2"), "the other expiry")
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:3", "first", "Eve")
    client.pexpire("person:3", 1)
    wait_for(lambda: not client.exists("person:3"), "the expiry at the bound")
    assert [each.op for each in changes(client)].count("x") == 3
    assert len(changes(client)) == LIMIT + 2


def test_a_queued_write_at_the_bound(client: redis.Redis) -> None:
    """Since 7.2 it fails when it is queued, so that EXEC aborts; before, it fails inside of EXEC."""
    fill(client)
    pipe = client.pipeline(transaction=True)
    pipe.set("neighbour", "x")
    pipe.hset("person:9", "first", "Eve")
    with pytest.raises(redis.ResponseError, match="BACKLOG"):
        pipe.execute()
    assert not client.exists("person:9")
    assert client.exists("neighbour") == (0 if server_version() >= (7, 2) else 1)
    assert len(changes(client)) == LIMIT


def test_bytes_bound_as_well_as_entries(client: redis.Redis) -> None:
    deploy(client, backlog=(0, 100_000))
    taken = 0
    with pytest.raises(redis.ResponseError, match=REFUSED):
        while taken < 1000:
            client.hset(f"person:{taken}", "first", "x" * 1000)
            taken += 1
    assert 80 <= taken <= 105
    acknowledge(client)
    client.hset("person:1", "first", "Ada")


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_the_estimate_of_bytes_is_near_what_redis_says(client: redis.Redis, size: int) -> None:
    deploy(client)
    for number in range(2000):
        client.hset(f"person:{number}", mapping={"first": "x" * size, "last": "y", "age": number})
    used = client.memory_usage(lanes(client)[0], samples=0)
    estimate = deployment_status(client)["backlog"]["bytes"]
    assert used is not None and abs(math.log2(estimate / used)) < 1, (estimate, used)


def test_a_user_without_the_right_to_be_told_is_refused_all_the_same(client: redis.Redis) -> None:
    fill(client)
    client.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=["+hset"])
    other = redis.Redis(
        connection_pool=redis.ConnectionPool(
            **{**client.connection_pool.connection_kwargs, "username": "limited", "password": "any"}
        )
    )
    with other, pytest.raises(redis.ResponseError):
        other.hset("person:9", "first", "Eve")
    client.acl_deluser("limited")
    assert not client.exists("person:9")


def test_the_bound_holds_after_a_restart_and_on_a_replica_nothing_is_refused() -> None:
    with (
        module_server(*ALWAYS) as server,
        module_server("--replicaof", "127.0.0.1", str(server.port)) as copy,
    ):
        with connect(server) as client, connect(copy) as replica:
            wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
            deploy(client, backlog=(LIMIT, 0), on_full="GROW")
            for number in range(LIMIT + 3):
                client.hset(f"person:{number}", "first", "Ada")
            deploy(client, version=2, backlog=(LIMIT, 0))
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.hset("person:1", "first", "Eve")
            wait_for(lambda: replica.exists(f"person:{LIMIT + 2}"), "the replica")
            assert len(replica.keys("person:*")) == LIMIT + 3
        server.restart()
        with connect(server) as client:
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.hset("person:1", "first", "Eve")
            acknowledge(client)
            client.hset("person:1", "first", "Eve")
