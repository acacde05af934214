"""Clients that are held in a cluster while their own command has already changed something.

Inside a command with keys, clusters of Redis 7.4 and Valkey 8 take every key for one of its slot, and clients
that are held count as inside their commands: a lane that were written then would be spoiled.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import pytest
import redis

from tests.cluster import Cluster
from tests.integration.module.driving import (
    ALWAYS,
    Function,
    acknowledge,
    changes,
    connect,
    debug_options,
    entries,
    lanes,
    module_server,
    server_version,
    wait_for,
)
from tests.integration.module.reading import Client, Worker, deploy_reads

FUNCTIONS = Function(), Function("list:{id}", type="LIST", target="t2"), Function("thing:{id}", target="t2")


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    node = functools.partial(module_server, *ALWAYS, *debug_options())
    with Cluster(node, primaries=1) as found:
        deploy_reads(found.clients[0], functions=FUNCTIONS, targets=["t1", "t2"])
        found.clients[0].execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        yield found


@pytest.fixture
def client(shared: Cluster) -> Iterator[redis.Redis]:
    yield shared.clients[0]


def let_end(client: redis.Redis, key: str) -> None:
    """The time of a key is over, and nobody has looked at it yet."""
    client.pexpire(key, 5)
    time.sleep(0.02)


def last_of(client: redis.Redis, target: str) -> tuple[str, str]:
    change = changes(client, target=target)[-1]
    return change.op, change.key


def check_data(client: redis.Redis) -> None:
    """Each lane is found by its name, and is there once, also after a reload."""
    for _ in range(2):
        keys = [key.decode() for key in client.scan_iter("gearsync:*:lane:*", count=1000)]
        assert sorted(keys) == sorted(
            each for target in ("t1", "t2") for each in lanes(client, target=target)
        )
        assert all(client.xlen(key) == len(entries(client, key)) > 0 for key in keys)
        client.execute_command("DEBUG", "RELOAD")


def test_a_read_of_a_key_that_has_just_ended(shared: Cluster, client: redis.Redis) -> None:
    client.hset("person:1", "first", "A")
    let_end(client, "person:1")
    reader = Client(shared.nodes[0], "HGET", "person:1", "first")
    wait_for(lambda: last_of(client, "t1") == ("x", "person:1"), "the change of a key that ended")
    acknowledge(client)
    Worker(shared.nodes[0]).serve({"person:1": {"first": "Ada"}})
    assert reader.result() == b"Ada"
    client.hset("person:1", "first", "B")
    assert last_of(client, "t1") == ("u", "person:1")
    client.hset("thing:1", "first", "B")
    check_data(client)


@pytest.mark.parametrize("key", ["list:1", "thing:2"])
def test_a_command_that_waits_for_a_key_that_has_just_ended(
    shared: Cluster, client: redis.Redis, key: str
) -> None:
    if key == "list:1":
        client.rpush(key, "a")
    else:
        client.hset(key, "first", "A")
    let_end(client, key)
    waiting = Client(shared.nodes[0], "BLPOP", key, 0)
    wait_for(lambda: last_of(client, "t2") == ("x", key), "the change of a key that ended")
    client.rpush(key, "b")
    assert list(waiting.result()) == [key.encode(), b"b"]
    client.hset("person:2", "first", "B")
    check_data(client)


def test_what_comes_right_after_it_keeps_its_order(shared: Cluster, client: redis.Redis) -> None:
    """Both come to the server at once."""
    client.hset("person:3", "first", "A")
    let_end(client, "person:3")
    with connect(shared.nodes[0], single_connection_client=True) as other:
        reader = Client(shared.nodes[0], "HGET", "person:3", "first")
        other.hset("person:3", "first", "B")
        assert reader.result() in (b"B", None)
    assert changes(client)[-1].image == {"first": "B"}
    client.hset("thing:4", "first", "C")
    check_data(client)


@pytest.mark.parametrize(
    "words",
    [
        ("GEARSYNC.EPOCH", 1000),
        ("GEARSYNC.PUT", "people", 0, "REPLACE", 0, 1, "person:5", 1, "first", "C"),
        ("GEARSYNC.RECAPTURE", "person:4"),
    ],
    ids=lambda words: str(words[0]),
)
def test_commands_of_ours_in_a_transaction_with_keys(client: redis.Redis, words: tuple[object, ...]) -> None:
    """They would take the registry, or a row's hash, for a key of the transaction's slot."""
    client.hset("person:5", "first", "A")
    is_refused = server_version() >= (7, 4) and words[0] != "GEARSYNC.RECAPTURE"
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("HSET", "person:4", "first", "B")
        pipe.execute_command(*words)
        _, reply = pipe.execute(raise_on_error=False)
    assert isinstance(reply, redis.ResponseError) == is_refused, reply
    assert changes(client)[-1].image == {"first": "B"}
    client.hset("thing:3", "first", "D")
    check_data(client)
