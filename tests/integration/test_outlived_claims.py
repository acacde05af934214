"""A lane that another shard has claimed, and lost again, without any mark of that: its own shard goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from connectors import Fenced
from deploy.hosts.module import ModuleHost
from gears.declaring import config
from gears.worker import claims
from gears.worker.lanes import fetch_lanes
from tests.cluster import Cluster
from tests.integration.deploying import FUNCTIONS, PERSONS, eventually, rows, write
from tests.integration.module.driving import lanes, status
from tests.integration.test_resharding import (
    Variables,
    deploy,
    key_of,
    node,
    table,
    variables,
    worker,
)
from tests.integration.workers import worker_of
from tests.sanitizers import module_path
from tests.servers import RedisServer, run_sql

HIGH = 1 << 30
__all__ = ["variables"]


@pytest.fixture
def cluster(variables: Variables) -> Iterator[Cluster]:
    with Cluster(node, primaries=2, replicas=1) as found:
        yield found


def owner_epoch(url: str, lane: str) -> int:
    found = rows(url, f"SELECT owner_epoch FROM gearsync_checkpoint WHERE stream = '{lane}'")
    return int(found[0][0]) if found else 0


def test_a_lane_goes_on_that_its_own_shard_has_again_after_a_crash(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """Its slot is half on its way when both primaries die, and no replica has heard of the move."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, unmoved = key_of(cluster, 0), key_of(cluster, 1)
    [lane] = lanes(cluster.clients[0])
    slot = key_slot(lane.encode())
    cluster.clients[1].execute_command("GEARSYNC.EPOCH", HIGH)
    cluster.clients[0].hset(key, "version", 1)
    cluster.clients[1].hset(unmoved, "version", 1)
    for client in cluster.clients[:2]:
        assert client.execute_command("WAIT", 1, 10_000) == 1
    with worker(cluster, 1, variables), cluster.forgetting(0, 1) as replicas:
        cluster.clients[1].execute_command("GEARSYNC.WAIT", 30_000)
        cluster.open_slot(slot, 0, 1)
        cluster.move_keys(slot, 0, 1)
        # It can't read the lane before the slot is its own.
        eventually(lambda: owner_epoch(url, lane) >= HIGH)
    old, other = (cluster.clients[replica] for replica in replicas)
    assert lane in lanes(old) and lane not in lanes(other)
    assert status(old)["epoch"] < HIGH <= status(other)["epoch"]
    old.hset(key, "version", 2)
    with worker(cluster, replicas[0], variables), worker(cluster, replicas[1], variables):
        old.execute_command("GEARSYNC.WAIT", 30_000)
    assert table(url) == {int(key.split(":")[1]): 2, int(unmoved.split(":")[1]): 1}
    assert status(old)["epoch"] > HIGH


def test_a_lane_goes_on_that_a_replica_claimed_which_was_started_as_a_primary(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of a container, until Sentinel makes it a replica again."""
    arguments = ("SUPERVISE", "no")
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    own = RedisServer(module=module_path(), module_arguments=arguments)
    stray = RedisServer("--appendonly", "yes", module=module_path(), module_arguments=arguments)

    def follow() -> None:
        with stray.client() as client:
            client.replicaof("127.0.0.1", own.port)
            eventually(lambda: client.info("replication").get("master_link_status") == "up")

    with own, stray, own.client() as client:
        ModuleHost(client).deploy(config.load(write(tmp_path, FUNCTIONS)))
        follow()
        client.hset("person:1", "first_name", "Ann")
        [lane] = (each.stream for each in fetch_lanes(client, "people").lanes)
        with worker_of(own, "people", tmp_path):
            assert client.execute_command("GEARSYNC.WAIT", 15_000) == b"OK"
            assert client.execute_command("WAIT", 1, 10_000) == 1
            epoch = status(client)["epoch"]
            stray.restart()
            with worker_of(stray, "people", tmp_path):
                eventually(lambda: owner_epoch(sqlite_url, lane) > epoch)
            client.hset("person:2", "first_name", "Bob")
        with worker_of(own, "people", tmp_path) as fenced:
            eventually(lambda: fenced._report.state == "fenced")
        follow()
        with worker_of(own, "people", tmp_path):
            assert client.execute_command("GEARSYNC.WAIT", 15_000) == b"OK"
        assert status(client)["epoch"] > epoch
    assert rows(sqlite_url, "SELECT first FROM persons ORDER BY person_id") == [("Ann",), ("Bob",)]


def test_which_claims_are_outlived(variables: Variables, tmp_path: Path) -> None:
    """Another shard's, which lives on and has not the lane; all others may be a later life of this Redis."""
    with Cluster(node, primaries=2) as cluster:
        deploy(cluster, tmp_path)
        one, other = cluster.clients
        [lane], [of_other] = lanes(one), lanes(other)
        other.execute_command("GEARSYNC.EPOCH", HIGH)
        before, mine, its = (status(one)["epoch"], status(one)["source"], status(other)["source"])
        url = cluster.nodes[0].url

        def outlives(owner: str, epoch: int, stream: str = lane, by: str = url) -> bool:
            return claims.outlive(by, "people", Fenced("", stream, owner, epoch))

        assert not outlives("1-abc", HIGH), "nobody knows whose"
        assert not outlives(f"1-abc@{mine}", HIGH), "a backup"
        assert not outlives("1-abc@0123456789ab", HIGH), "a shard that is gone"
        assert not outlives(f"1-abc@{its}", HIGH + 1), "a backup of that shard"
        assert not outlives(f"1-abc@{its}", HIGH, of_other), "that shard's own"
        for client in cluster.clients:
            client.execute_command("ACL", "SETUSER", "less", "on", ">pass", "~*", "+@all", "-gearsync.epoch")
        assert not outlives(f"1-abc@{its}", HIGH, by=url.replace("://", "://less:pass@"))
        assert status(one)["epoch"] == before
        for _ in range(2):
            assert outlives(f"1-abc@{its}", HIGH)
            assert status(one)["epoch"] == HIGH + 1
