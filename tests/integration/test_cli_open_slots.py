"""The command line while slots move: it finds what it needs, and no redirection reaches the user."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot

from tests.chaos.clustered import command
from tests.cluster import Cluster
from tests.integration import deployed
from tests.integration.command import until
from tests.integration.test_cli_wait import deployed_cluster, key_in, key_on


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with deployed_cluster(primaries=2) as found:
        yield found


def slot_of_lanes(client: redis.Redis) -> int:
    return key_slot(json.loads(client.execute_command("GEARSYNC.STATUS"))["tag"].encode())


def listed(cluster: Cluster) -> list[str]:
    """The keys of the dead letters, by the URL of either node."""
    found = [
        sorted(
            each["key"] for each in json.loads(command("deadletters", "list", "--redis", node.url, "--json"))
        )
        for node in cluster.nodes
    ]
    assert found[0] == found[1]
    return found[0]


def recaptured(client: redis.Redis) -> Counter[str]:
    """How often each key was captured anew, of what waits on a shard."""
    found = deployed.changes(client)
    return Counter(fields[b"k"].decode() for _, fields in found if fields[b"m"][:1] in b"rd")


def test_a_key_of_an_open_slot_is_captured_anew_where_it_is(cluster: Cluster) -> None:
    """Before it has moved, and after; and one that no shard has."""
    old, new = cluster.clients
    key = key_on(cluster, 0)
    slot = key_slot(key.encode())
    absent = key_in({slot} if key != key_in({slot}) else {slot - 1})
    old.hset(key, "name", "Ada")
    cluster.open_slot(slot, 0, 1)
    for where in cluster.clients:
        deployed.bury(old, key, "no", {})
        assert "1 dead letter retried" in command(
            "deadletters", "retry", "--key", key, "--redis", cluster.url
        )
        assert [recaptured(each)[key] for each in cluster.clients] == ([1, 0] if where is old else [1, 1])
        cluster.move_keys(slot, 0, 1)
    deployed.bury(old, absent, "no", {})
    command("deadletters", "retry", "--all", "--redis", cluster.url)
    assert listed(cluster) == []
    cluster.close_slot(slot, 1)
    assert new.hget(key, "name") == b"Ada"


def test_letters_are_read_and_deleted_while_their_own_slot_moves(cluster: Cluster) -> None:
    old, new = cluster.clients
    keys = sorted({key_on(cluster, 0), key_on(cluster, 1), "person:gone"})
    for key in keys:
        deployed.bury(old, key, "no", {})
    slot = slot_of_lanes(old)
    cluster.open_slot(slot, 0, 1)
    until(lambda: slot_of_lanes(old) != slot)
    assert listed(cluster) == keys
    cluster.move_keys(slot, 0, 1)
    assert json.loads(new.execute_command("GEARSYNC.STATUS"))["deployments"][0]["targets"][0]["dead_letters"]
    assert listed(cluster) == keys
    command("status", "--redis", cluster.url)
    # For the marks of the slot, as no worker runs.
    late = command("wait", "--redis", cluster.url, "--timeout", "0.1", code=1)
    assert "2 changes wait" in late
    assert "1 dead letter retried" in command(
        "deadletters", "retry", "--key", keys.pop(), "--redis", cluster.nodes[0].url
    )
    assert "1 dead letter dropped" in command(
        "deadletters", "drop", "--key", keys.pop(), "--yes", "--redis", cluster.nodes[1].url
    )
    assert listed(cluster) == keys
    cluster.close_slot(slot, 1)
    assert listed(cluster) == keys
    command("deadletters", "retry", "--all", "--redis", cluster.url)
    assert listed(cluster) == []


def test_undeploy_while_the_slot_of_lanes_is_open(cluster: Cluster) -> None:
    old, new = cluster.clients
    old.hset(key_on(cluster, 0), "name", "Ada")
    slot = slot_of_lanes(old)
    cluster.open_slot(slot, 0, 1)
    cluster.move_keys(slot, 0, 1)
    late = command("undeploy", "people", "--redis", cluster.url, "--timeout", "0.5", code=1)
    assert "still draining" in late
    cluster.close_slot(slot, 1)
    for client in (new, old):
        deployed.apply_all(client)
    until(lambda: all("people" not in command("status", "--redis", node.url) for node in cluster.nodes))
