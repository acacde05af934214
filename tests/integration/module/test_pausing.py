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
    module_server,
    wait_for,
)
from tests.integration.module.reading import Client
from tests.servers import RedisServer

WAITING = Function("through:{id}", timeout_ms=20_000)
READS = (Read("read:{id}"), Read("missed:{id}", failure="MISS"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with module_server(*ALWAYS) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server) as client:
        deploy(client, Function(), name="people")
        deploy(client, WAITING, name="waiting", reads=READS)
        yield client
        for name in ("people", "waiting"):
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
