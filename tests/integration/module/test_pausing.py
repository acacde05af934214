"""Pausing: capture goes on, clients who would wait are told at once, a promoted replica knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    Function,
    Read,
    changes,
    connect,
    deploy,
    deployment_status,
    entries,
    lanes,
    module_server,
    wait_for,
)
from tests.integration.module.reading import Client
from tests.servers import RedisServer

WAITING = Function("through:{id}", timeout_ms=20_000)
READS = (Read("read:{id}"), Read("missed:{id}", failure="MISS"))
ONE, OTHER = Function("one:{id}", target="t1"), Function("other:{id}", target="t2")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with module_server(*ALWAYS) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server) as client:
        deploy(client, Function(), name="people")
        deploy(client, WAITING, name="waiting", reads=READS)
        deploy(client, ONE, OTHER, name="both", targets=("t1", "t2"), reads=(Read("far:{id}", target="t2"),))
        yield client
        for name in ("people", "waiting", "both"):
            client.execute_command("GEARSYNC.UNDEPLOY", name, "DISCARD")
        client.flushall()


def pause(client: redis.Redis, name: str, *words: str) -> None:
    assert client.execute_command("GEARSYNC.PAUSE", name, *words) in (b"OK", "OK")


def state_of(client: redis.Redis, name: str) -> Any:
    """What a worker is told."""
    reply = client.execute_command("GEARSYNC.HEARTBEAT", name, "w1", json.dumps({}))
    return reply[2].decode()


def test_capture_goes_on_and_the_worker_is_told(client: redis.Redis) -> None:
    pause(client, "people", "ann", "a new\nindex")
    client.hset("person:1", "first", "Ada")
    client.delete("person:1")
    assert [each.op for each in changes(client, "people")] == ["u", "d"]
    assert state_of(client, "people") == "pause" and state_of(client, "waiting") == "run"
    found = deployment_status(client, "people")
    assert found["state"] == "paused"
    assert (found["paused"]["by"], found["paused"]["reason"]) == ("ann", "a new index")
    since = found["paused"]["since_ms"]
    pause(client, "people", "bob")
    assert deployment_status(client, "people")["paused"] == {"since_ms": since, "by": "bob", "reason": ""}
    client.execute_command("GEARSYNC.RESUME", "people")
    assert state_of(client, "people") == "run" and "paused" not in deployment_status(client, "people")


def test_clients_who_would_wait_are_told_at_once_and_nothing_is_written(
    server: RedisServer, client: redis.Redis
) -> None:
    first = Client(server, "HSET", "through:1", "first", "Ada")
    behind = Client(server, "HSET", "through:1", "first", "Bob")
    reading = Client(server, "HGETALL", "read:1")
    missing = Client(server, "HLEN", "missed:1")
    wait_for(lambda: int(client.info("clients")["blocked_clients"]) == 4, "four clients wait")
    pause(client, "waiting", "ann", "maintenance")
    for waiting in (first, behind):
        said = waiting.result()
        assert said.startswith("THROUGH nothing was written: the deployment waiting is paused since 20")
        assert said.endswith(" by ann: maintenance")
    assert reading.result().startswith("READTHROUGH the deployment waiting is paused since 20")
    assert missing.result() == 0
    for command in (("HSET", "through:2", "first", "x"), ("DEL", "through:1"), ("HGET", "read:2", "a")):
        with pytest.raises(redis.ResponseError, match="the deployment waiting is paused"):
            client.execute_command(*command)
    assert client.hlen("missed:2") == 0
    assert client.exists("through:1", "through:2") == 0
    client.execute_command("GEARSYNC.RESUME", "waiting")
    again = Client(server, "HSET", "through:3", "first", "x")
    wait_for(lambda: int(client.info("clients")["blocked_clients"]) == 1, "the client waits again")
    client.execute_command("CLIENT", "KILL", "ID", again.id)


def test_an_undeploy_would_never_end(client: redis.Redis) -> None:
    pause(client, "people")
    with pytest.raises(redis.ResponseError, match="resume it first"):
        client.execute_command("GEARSYNC.UNDEPLOY", "people")
    assert deployment_status(client, "people")["state"] == "paused"


def test_a_restart_and_a_promoted_replica_know(server: RedisServer, client: redis.Redis) -> None:
    with module_server("--replicaof", "127.0.0.1", str(server.port)) as other, connect(other) as replica:
        pause(client, "people", "ann", "as agreed")
        pause(client, "waiting")
        client.execute_command("GEARSYNC.RESUME", "waiting")
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
        assert client.wait(1, 10_000) == 1
        assert deployment_status(replica, "people")["paused"]["reason"] == "as agreed"
        replica.execute_command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: state_of(replica, "people") == "pause", "the promoted replica has it paused")
        assert state_of(replica, "waiting") == "run"
        client.execute_command("GEARSYNC.RESUME", "people")
        pause(client, "waiting")
    server.restart()
    assert state_of(client, "people") == "run" and state_of(client, "waiting") == "pause"
    deploy(client, WAITING, name="waiting", version=2)
    assert state_of(client, "waiting") == "pause"


def paused_targets(client: redis.Redis) -> dict[str, Any]:
    """What the status says; a worker is told the same."""
    told = client.execute_command("GEARSYNC.LANES", "both")[5]
    found = {
        each["name"]: each["paused"]
        for each in deployment_status(client, "both")["targets"]
        if "paused" in each
    }
    assert sorted(each.decode() for each in told) == sorted(found)
    return found


def test_a_target_alone_is_paused(server: RedisServer, client: redis.Redis) -> None:
    reading = Client(server, "HGETALL", "far:1")
    wait_for(lambda: int(client.info("clients")["blocked_clients"]) == 1, "a client waits")
    pause(client, "both", "ann", "a new index", "TARGET", "t2")
    told = reading.result()
    assert told.startswith("READTHROUGH the target t2 of the deployment both is paused since 20"), told
    with pytest.raises(
        redis.ResponseError, match=r"t2 of the deployment both is paused .* by ann: a new index"
    ):
        client.hgetall("far:2")
    for key in ("one:1", "other:1", "other:2"):
        client.hset(key, "first", "Ada")
    assert [len(changes(client, "both", each)) for each in ("t1", "t2")] == [1, 2]
    assert deployment_status(client, "both")["backlog"]["entries"] == 3
    assert state_of(client, "both") == "run" and deployment_status(client, "both")["state"] == "active"
    assert paused_targets(client)["t2"]["reason"] == "a new index"
    waiting = Client(server, "GEARSYNC.WAIT", "20000", "DEPLOYMENT", "both")
    wait_for(
        lambda: int(client.info("clients")["blocked_clients"]) == 1, "the barrier waits for the other target"
    )
    (lane,) = lanes(client, "both", "t1")
    client.execute_command("GEARSYNC.ACK", lane, entries(client, lane)[-1][0])
    assert waiting.result().startswith("PAUSED all else is in SQL")
    with pytest.raises(redis.ResponseError, match="PAUSED"):
        client.execute_command("GEARSYNC.WAIT", 20_000, "KEY", "other:2")
    client.execute_command("GEARSYNC.RESUME", "both", "TARGET", "t2")
    assert paused_targets(client) == {}


def test_a_paused_target_can_neither_be_left_out_nor_undeployed(client: redis.Redis) -> None:
    pause(client, "both", "", "", "TARGET", "t1", "t2")
    with pytest.raises(redis.ResponseError, match="a target of the deployment is paused"):
        client.execute_command("GEARSYNC.UNDEPLOY", "both")
    with pytest.raises(
        redis.ResponseError, match="target t2 of both is paused, and this version leaves it out"
    ):
        deploy(client, ONE, name="both", version=2)
    for words in (("PAUSE", "both", "", "", "TARGET", "t3"), ("RESUME", "both", "TARGET", "t1", "t3")):
        with pytest.raises(redis.ResponseError, match="no target of that name"):
            client.execute_command(f"GEARSYNC.{words[0]}", *words[1:])
    assert sorted(paused_targets(client)) == ["t1", "t2"]


def test_a_restart_a_promotion_and_an_upgrade_leave_a_target_paused(
    server: RedisServer, client: redis.Redis
) -> None:
    pause(client, "both", "ann", "as agreed", "TARGET", "t2")
    with module_server("--replicaof", "127.0.0.1", str(server.port)) as other, connect(other) as replica:
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
        assert client.wait(1, 10_000) == 1
        replica.execute_command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: replica.info("replication")["role"] == "master", "the promotion")
        wait_for(lambda: list(paused_targets(replica)) == ["t2"], "the promoted replica has it paused")
    since = paused_targets(client)["t2"]
    server.restart()
    assert paused_targets(client) == {"t2": since}
    # Its place among the targets is another one now.
    deploy(client, OTHER, ONE, name="both", version=2, targets=("t2", "t3", "t1"))
    assert paused_targets(client) == {"t2": since}
    client.bgrewriteaof()
    wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewritten AOF")
    server.restart()
    assert paused_targets(client) == {"t2": since}


def test_a_write_that_needs_a_row_of_a_paused_target_is_told_at_once(client: redis.Redis) -> None:
    through = Function("through:{id}", timeout_ms=20_000)
    reads = (Read("through:{id}", target="t2"),)
    deploy(client, through, name="waiting", version=2, targets=("t1", "t2"), reads=reads)
    pause(client, "waiting", "", "", "TARGET", "t2")
    with pytest.raises(
        redis.ResponseError, match="nothing was written: the target t2 of the deployment waiting"
    ):
        client.hset("through:1", "first", "Ada")
    pause(client, "waiting", "", "", "TARGET", "t1")
    with pytest.raises(
        redis.ResponseError, match="nothing was written: the target t1 of the deployment waiting"
    ):
        client.hset("through:1", "first", "Ada")
