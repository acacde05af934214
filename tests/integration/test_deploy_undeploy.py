"""``gearsync undeploy``: what waits is applied or given up, never forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hosts
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
def server(host: str, database: str) -> Iterator[RedisServer]:
    with hosts.server_of(host) as running:
        yield running


@pytest.fixture
def idle(database: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A server with the deployment, whose worker is external and does not run."""
    text = FUNCTIONS.replace('name="people"', 'name="people", worker="external"')
    with redis_with_module() as running:
        assert gearsync("deploy", write(tmp_path, text), "--redis", running.url).returncode == 0
        yield running


def fill(server: RedisServer, count: int) -> None:
    with server.client() as client:
        for number in range(count):
            client.hset(f"person:{number}", "first_name", f"f{number}")


def keys_of_gearsync(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        return sorted(key for key in client.keys("gearsync:*") if not key.endswith(b":registry"))


def test_what_waits_is_applied_and_then_it_is_gone(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    assert gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", server.url).returncode == 0
    fill(server, 500)
    run = gearsync("undeploy", "people", "--redis", server.url)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("people is gone from 1 shard; ")
    assert rows(database, "SELECT COUNT(*) FROM persons") == [(500,)]
    assert deployments(server) == {}
    assert keys_of_gearsync(server) == []
    fill(server, 600)
    assert keys_of_gearsync(server) == []


def test_what_waits_can_be_discarded(idle: RedisServer, database: str) -> None:
    fill(idle, 30)
    document = gearsync_json("undeploy", "people", "--redis", idle.url, "--discard")
    assert (document["changes"], document["discarded"]) == (30, True)
    assert rows(database, "SELECT COUNT(*) FROM persons") == [(0,)]
    assert (deployments(idle), keys_of_gearsync(idle)) == ({}, [])


def test_without_a_worker_it_drains_until_the_timeout_and_says_what_to_do(idle: RedisServer) -> None:
    fill(idle, 30)
    run = gearsync("undeploy", "people", "--redis", idle.url, "--timeout", "1")
    assert run.returncode == 1
    assert "after 1 s people is still draining" in run.stderr
    assert "30 changes to apply (worker external)" in run.stderr
    assert "--discard" in run.stderr
    assert deployments(idle) == {"people": (1, "draining")}
    fill(idle, 40)
    run = gearsync("undeploy", "people", "--redis", idle.url, "--discard")
    assert run.returncode == 0, run.stderr
    assert "30 waiting changes dropped" in run.stdout


def test_a_draining_deployment_comes_back_by_a_deploy(
    idle: RedisServer, database: str, tmp_path: Path
) -> None:
    fill(idle, 30)
    assert gearsync("undeploy", "people", "--redis", idle.url, "--timeout", "0").returncode == 1
    run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", idle.url)
    assert run.returncode == 0, run.stderr
    assert deployments(idle) == {"people": (2, "active")}
    eventually(lambda: rows(database, "SELECT COUNT(*) FROM persons") == [(30,)])


def test_dead_letters_keep_it_until_somebody_settles_them(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    text = FUNCTIONS.replace('"last_name": "last"', '"last_name": "age"')
    assert gearsync("deploy", write(tmp_path, text), "--redis", server.url).returncode == 0
    with server.client() as client:
        client.hset("person:1", mapping={"first_name": "Ada", "last_name": "no number"})
    assert gearsync("wait", "--redis", server.url, "--timeout", "30").returncode == 0
    run = gearsync("undeploy", "people", "--redis", server.url)
    assert run.returncode == 1
    assert "1 dead letter of it remain" in run.stderr
    run = gearsync("undeploy", "people", "--redis", server.url, "--discard")
    assert run.returncode == 0, run.stderr
    assert "1 dead letter dropped" in run.stdout
    assert deployments(server) == {}


def test_a_name_that_is_not_deployed(server: RedisServer) -> None:
    run = gearsync("undeploy", "nobody", "--redis", server.url)
    assert run.returncode == 1
    assert "there is no deployment nobody" in run.stderr
