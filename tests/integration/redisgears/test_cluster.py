"""A cluster of RedisGears: one deploy to all shards or none, and the command line over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gears.redisgears.servers import files_wrongly
from tests.cluster import Cluster
from tests.integration.deploying import eventually, gearsync, gearsync_json, rows, write
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")
people = Target("env:DB_URL", name="people")
WriteBehind(keys="person:{id}", table="persons", columns=["name", "age"], target=people)
"""
PEOPLE = 300


@pytest.fixture
def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    run_sql(postgres_url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER)")
    monkeypatch.setenv("DB_URL", postgres_url)
    return postgres_url


@pytest.fixture
def any_cluster(database: str) -> Iterator[Cluster]:
    # On a busy machine Python loads what it was sent for longer than the neighbours would wait.
    with Cluster(lambda *options: RedisGears(*options, "--cluster-node-timeout", "15000")) as made:
        yield made


def is_refused(cluster: Cluster) -> bool:
    info: dict[str, Any] = cluster.clients[0].info("server")
    return files_wrongly(info["redis_version"], True)


@pytest.fixture
def cluster(any_cluster: Cluster) -> Cluster:
    """A cluster on which RedisGears can capture."""
    if is_refused(any_cluster):
        pytest.skip("a cluster of Redis 7.4 or newer is refused")
    return any_cluster


def test_a_cluster_of_newer_servers_is_refused(any_cluster: Cluster, tmp_path: Path) -> None:
    if not is_refused(any_cluster):
        pytest.skip("this server takes deployments as a cluster")
    done = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", any_cluster.url)
    assert done.returncode == 1
    assert "use the gearsync module there" in " ".join((done.stdout + done.stderr).split())
    for node in any_cluster.nodes:
        assert isinstance(node, RedisGears)
        assert node.registrations() == []


def test_one_deploy_is_on_all_shards_and_one_undeploy_takes_it_from_all(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    done = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Deployed people version 1 to 3 shards")
    with cluster.client() as client:
        for number in range(PEOPLE):
            client.hset(f"person:{number}", mapping={"name": f"n{number}", "age": number})
        for number in range(0, PEOPLE, 2):
            client.hincrby(f"person:{number}", "age", 1000)
            client.hset("person:7", "age", "old")
        assert gearsync("wait", "--redis", cluster.url).returncode == 0
        expected = [(number, f"n{number}", number + 1000 * (number % 2 == 0)) for number in range(PEOPLE)]
        assert rows(database, "SELECT id, name, age FROM persons ORDER BY id") == expected
        letters = gearsync_json("deadletters", "list", "--redis", cluster.url)
        assert {each["key"] for each in letters} == {"person:7"}
        client.hset("person:7", "age", 70)
    retried = gearsync("deadletters", "retry", "--all", "--redis", cluster.url)
    assert retried.returncode == 0, retried.stderr
    assert gearsync("wait", "--redis", cluster.url).returncode == 0
    assert rows(database, "SELECT age FROM persons WHERE id = 7") == [(70,)]
    status = gearsync_json("status", "--redis", cluster.url)
    assert [each["deployments"][0]["version"] for each in status["shards"]] == [1, 1, 1]
    assert all(each["deployments"][0]["captured"] > 50 for each in status["shards"])
    assert len({each["source"] for each in status["shards"]}) == 3

    fewer = write(tmp_path, FUNCTIONS.replace('"name", "age"', '"age"'))
    again = gearsync("deploy", fewer, "--redis", cluster.url, "--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("Deployed people version 2 to 3 shards")
    gone = gearsync("undeploy", "people", "--redis", cluster.url)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    for node in cluster.nodes:
        assert isinstance(node, RedisGears)
        assert node.registrations() == []
        with node.client() as shard:
            assert [key for key in shard.keys("gearsync:*") if not key.endswith(b":registry")] == []


def test_a_shard_that_is_away_gets_no_deployment_and_neither_do_the_others(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.nodes[2].kill9()
    done = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster.url)
    assert done.returncode == 1
    assert f"127.0.0.1:{cluster.nodes[2].port}" in " ".join((done.stdout + done.stderr).split())
    for node in cluster.nodes[:2]:
        assert isinstance(node, RedisGears)
        assert node.registrations() == []


def test_a_shard_that_restarts_goes_on(cluster: Cluster, database: str, tmp_path: Path) -> None:
    """Its registrations, its lane and its place in SQL come back with its data."""
    assert gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster.url).returncode == 0
    with cluster.client() as client:
        for number in range(PEOPLE):
            client.hset(f"person:{number}", "age", number)
    with cluster.nodes[1].client() as shard:
        shard.execute_command("SAVE")
    cluster.nodes[1].restart()
    cluster.wait_until_whole()
    with cluster.client() as client:

        def written() -> bool:
            return client.hset(f"person:{PEOPLE}", "age", 1) in (0, 1)

        eventually(written)
        for number in range(PEOPLE):
            client.hset(f"person:{number}", "age", number + 1)
    assert gearsync("wait", "--redis", cluster.url).returncode == 0
    assert rows(database, "SELECT COUNT(*), SUM(age - id) FROM persons WHERE id < 300") == [(PEOPLE, PEOPLE)]
