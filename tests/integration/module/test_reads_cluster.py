"""Read-through on a cluster: the shard that owns a slot holds its clients, others send them there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.integration.module.driving import (
    acknowledge,
    changes,
    connect,
    module_server,
)
from tests.integration.module.reading import ADA, Client, Worker, counts, deploy_reads, until_waiting

#: A key of the first of two shards, and its slot.
KEY = next(f"person:{number}" for number in range(100) if key_slot(f"person:{number}".encode()) < 8192)
SLOT = key_slot(KEY.encode())


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two shards with the deployment."""
    with Cluster(module_server, primaries=2) as found:
        for client in found.clients:
            deploy_reads(client)
        yield found


def test_a_client_is_sent_to_the_shard_of_its_key(cluster: Cluster) -> None:
    with pytest.raises(redis.exceptions.MovedError):
        connect(cluster.nodes[1]).hget(KEY, "first")
    with pytest.raises(redis.ResponseError, match="same slot"):
        connect(cluster.nodes[0]).exists(KEY, "person:{other}")
    reader = Client(cluster.nodes[0], "HGET", KEY, "first")
    worker = Worker(cluster.nodes[0])
    worker.serve({KEY: ADA})
    assert reader.result() == b"Ada"
    assert counts(cluster.clients[1])["misses"] == 0
    with cluster.client() as client:
        assert client.hget(KEY, "first") == b"Ada"


def test_a_slot_that_leaves_meanwhile(cluster: Cluster) -> None:
    """The client is told to try again, and is then sent to the new shard."""
    reader = Client(cluster.nodes[0], "HGET", KEY, "first")
    worker = Worker(cluster.nodes[0])
    taken = worker.take()
    cluster.move_slot(SLOT, 1)
    assert worker.bring(taken, {KEY: ADA}) == 0
    acknowledge(cluster.clients[0])
    assert worker.serve({KEY: ADA}) == [KEY]
    found = reader.result()
    assert "the slot of this key has moved" in found
    with cluster.client() as client:
        assert not client.keys("person:*", target_nodes=client.ALL_NODES)


def test_a_miss_on_the_new_shard_waits_for_the_changes_on_the_old_one(cluster: Cluster) -> None:
    """The deletion waits in the old shard's lane: only the marks of the slot say so."""
    old, new = cluster.clients
    old.hset(KEY, "first", "old")
    acknowledge(old)
    old.delete(KEY)
    cluster.move_slot(SLOT, 1)
    reader = Client(cluster.nodes[1], "HGET", KEY, "first")
    until_waiting(new)
    worker = Worker(cluster.nodes[1])
    assert worker.take(1) == {}
    assert [each.op for each in changes(new)] != []
    # The worker acknowledges the mark when the old shard's worker is through.
    acknowledge(new)
    worker.serve({})
    assert reader.result() is None


def test_a_miss_in_a_slot_on_its_way_waits_for_the_changes_on_the_old_shard(cluster: Cluster) -> None:
    old, new = cluster.clients
    old.hset(KEY, "first", "old")
    acknowledge(old)
    old.delete(KEY)
    cluster.open_slot(SLOT, 0, 1)
    with connect(cluster.nodes[1], single_connection_client=True) as client:
        connection = client.connection
        assert connection is not None
        connection.send_command("ASKING")
        assert connection.read_response() == b"OK"
        connection.send_command("HGET", KEY, "first")
        until_waiting(new)
        assert Worker(cluster.nodes[1]).take(1) == {}
        assert [each.op for each in changes(new)] == ["i"]
