"""A Redis Cluster under load: replicas take over, and nothing is lost, doubled or out of order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import clustered
from tests.chaos.clustered import Load, check, deployment, until_worker_runs
from tests.chaos.world import until
from tests.cluster import Cluster
from tests.form import SOAK
from tests.integration.deploying import gearsync_json

ROUNDS = 10 if SOAK else 1

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if SOAK else 240)]


@pytest.fixture(params=["postgres", "mariadb", "sqlite"] if SOAK else ["postgres"])
def database(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def cluster(database: str, tmp_path: Path) -> Iterator[Cluster]:
    """Three shards with a replica each."""
    with clustered.deployed(database, tmp_path) as found:
        yield found


def until_no_worker_runs(cluster: Cluster, number: int) -> None:
    until(lambda: deployment(cluster, number)["worker"]["pid"] == 0, what="the end of the old worker")


def test_failover_by_hand(cluster: Cluster, database: str) -> None:
    """CLUSTER FAILOVER of one shard after the other: nothing that was answered is lost."""
    with Load(cluster) as load:
        load.until_all_written()
        load.answered.clear()
        for turn in range(ROUNDS):
            before = cluster.primaries()[turn % 3]
            after = cluster.fail_over(before)
            until_worker_runs(cluster, after)
            until_no_worker_runs(cluster, before)
        load.until_all_written()
    check(cluster, database, load)


def test_kill_9_of_a_primary(cluster: Cluster, database: str) -> None:
    """The cluster promotes the replica; the old primary comes back as one, and starts no worker."""
    with Load(cluster) as load:
        for turn in range(ROUNDS):
            load.until_all_written()
            before = cluster.primaries()[turn % 3]
            after = cluster.kill_primary(before)
            until_worker_runs(cluster, after)
            load.until_all_written()
            cluster.bring_back(before)
            assert deployment(cluster, before)["worker"]["restarts"] == 0
        load.until_all_written()
    assert load.failed > 0
    check(cluster, database, load)
    assert deployment(cluster, before)["worker"]["restarts"] == 0
    shards = gearsync_json("status", "--redis", cluster.nodes[before].url)["shards"]
    ports = {cluster.nodes[number].port for number in cluster.primaries()}
    assert {int(each["address"].rpartition(":")[2]) for each in shards} == ports


def test_a_primary_that_lives_on_behind_a_cut(cluster: Cluster, database: str) -> None:
    """Its worker lives on as well, with a batch in hand perhaps; both learn late that a replica took over."""
    with Load(cluster) as load:
        for turn in range(ROUNDS):
            load.until_all_written()
            before = cluster.primaries()[turn % 3]
            with cluster.frozen(before) as after:
                until_worker_runs(cluster, after)
                load.until_all_written()
            until_no_worker_runs(cluster, before)
        load.until_all_written()
    assert load.failed > 0
    check(cluster, database, load)
