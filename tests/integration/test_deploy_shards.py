"""All primaries or none, on a cluster of two shards."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.rollout import plan, upload
from tests.integration.deploying import (
    FUNCTIONS,
    PERSONS,
    deployments,
    eventually,
    gearsync,
    gearsync_json,
    redis_with_module,
    rows,
    worker_environment,
    write,
)
from tests.servers import RedisServer, run_sql


@pytest.fixture
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    run_sql(sqlite_url, PERSONS)
    for name, value in worker_environment(sqlite_url).items():
        monkeypatch.setenv(name, value)
    return sqlite_url


@pytest.fixture
def cluster(database: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with redis_with_module(*options) as one, redis_with_module(*options) as two:
        with one.client() as first, two.client() as second:
            first.execute_command("CLUSTER ADDSLOTS", *range(8192))
            second.execute_command("CLUSTER ADDSLOTS", *range(8192, 16384))
            first.execute_command("CLUSTER MEET", "127.0.0.1", two.port)
            for client in (first, second):
                eventually(functools.partial(is_whole, client))
        yield one, two


Cluster = tuple[RedisServer, RedisServer]


def is_whole(client: redis.Redis) -> bool:
    info: dict[str, str] = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "2"


def refuse_more(server: RedisServer) -> None:
    """From now on the server refuses what needs memory, GEARSYNC.DEPLOY among it."""
    with server.client() as client:
        client.config_set("maxmemory", "1")


def test_every_shard_gets_it_and_writes_of_both_arrive(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    document = gearsync_json("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster[0].url)
    assert [shard["worker"] for shard in document["shards"]] == ["running", "running"]
    assert deployments(cluster[0]) == deployments(cluster[1]) == {"people": (1, "active")}
    with redis.RedisCluster(host="127.0.0.1", port=cluster[0].port) as client:
        for number in range(40):
            client.hset(f"person:{number}", "first_name", f"f{number}")
    eventually(lambda: rows(database, "SELECT COUNT(*) FROM persons") == [(40,)])


def test_deleting_rows_at_a_flush_is_refused_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    text = FUNCTIONS.replace("target=reporting", 'on_flush="delete", target=reporting')
    document = gearsync_json("check", write(tmp_path, text), "--redis", cluster[0].url, code=1)
    assert [mistake["option"] for mistake in document["mistakes"]] == ["on_flush"]


def test_a_new_deployment_that_one_shard_refuses_is_on_none(cluster: Cluster, tmp_path: Path) -> None:
    made = plan.make(write(tmp_path, FUNCTIONS), url=cluster[0].url)
    assert made.mistakes == []
    last = max(cluster, key=lambda server: server.port)
    refuse_more(last)
    with pytest.raises(upload.DeployFailed) as caught:
        upload.send(made, lambda text: None)
    made.close()
    assert str(last.port) in str(caught.value)
    assert deployments(cluster[0]) == deployments(cluster[1]) == {}
    assert any("has no people again" in note for note in caught.value.notes)


def test_an_upgrade_that_one_shard_refuses_is_taken_back(cluster: Cluster, tmp_path: Path) -> None:
    assert gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster[0].url).returncode == 0
    changed = write(tmp_path, FUNCTIONS.replace('name="people"', 'name="people", batch=9'))
    made = plan.make(changed, url=cluster[0].url)
    assert made.mistakes == []
    first, last = sorted(cluster, key=lambda server: server.port)
    refuse_more(last)
    with pytest.raises(upload.DeployFailed) as caught:
        upload.send(made, lambda text: None)
    made.close()
    assert f"127.0.0.1:{first.port} has version 1 again" in caught.value.notes
    assert deployments(first) == deployments(last) == {"people": (1, "active")}


def test_a_shard_that_refuses_at_the_check_is_a_mistake(cluster: Cluster, tmp_path: Path) -> None:
    refuse_more(cluster[1])
    run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster[0].url)
    assert run.returncode == 1
    assert f"127.0.0.1:{cluster[1].port}" in run.stderr and "refuses the deployment" in run.stderr
    assert deployments(cluster[0]) == deployments(cluster[1]) == {}


def test_undeploy_ends_it_on_every_shard(cluster: Cluster, tmp_path: Path) -> None:
    assert gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster[0].url).returncode == 0
    run = gearsync("undeploy", "people", "--redis", cluster[1].url)
    assert run.returncode == 0, run.stderr
    assert "gone from 2 shards" in run.stdout
    assert deployments(cluster[0]) == deployments(cluster[1]) == {}
