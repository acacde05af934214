"""gearsync status and gearsync wait, as processes."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from tests.integration import deployed
from tests.integration.command import GEARSYNC, environment, gearsync, until
from tests.servers import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with deployed.server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        yield connected


def test_status_of_an_empty_server(server: RedisServer) -> None:
    done = gearsync("status", "--redis", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing is deployed here." in done.stdout
    assert "Nothing needs attention." in done.stdout


def test_status_fits_80_columns_and_says_what_needs_attention(
    server: RedisServer, client: redis.Redis
) -> None:
    deployed.deploy(client, "a-deployment-with-a-rather-long-name-of-fifty-letters")
    deployed.deploy(client)
    client.hset("person:1", "name", "Ada")
    client.hset("person:1:2", "name", "missed")
    waiting = {"state": "waiting", "last_error": "connection refused", "lag_ms": {"p50": 1.25, "p99": 120.5}}
    deployed.beat(client, targets={"reporting": waiting})
    deployed.bury(client, "person:9", "no integer", {})

    done = gearsync("status", "--redis", server.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["people"])
    assert row.split() == ["people", "1", "active", "running", "1", "1.2", "/", "120.5", "1"]
    flat = " ".join(done.stdout.split())
    assert "target reporting waits: connection refused." in flat
    assert "1 dead letter of target reporting" in flat
    assert "keys that fit no template, the last to person:1:2." in flat
    assert "its worker does not run: stopped; start gearsync worker." in flat


def test_status_check_fails_only_when_something_needs_attention(
    server: RedisServer, client: redis.Redis
) -> None:
    deployed.deploy(client)
    deployed.beat(client)
    assert gearsync("status", "--redis", server.url, "--check").returncode == 0
    deployed.bury(client, "person:9", "no integer", {})
    assert gearsync("status", "--redis", server.url, "--check").returncode == 1
    assert gearsync("status", "--redis", server.url).returncode == 0


def test_status_as_json(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    done = gearsync("status", "--json", GEARSYNC_REDIS=server.url)
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert document["shards"][0]["address"] == f"127.0.0.1:{server.port}"
    assert document["shards"][0]["deployments"][0]["name"] == "people"
    assert len(document["attention"]) == 1


def test_status_of_the_shards_that_are_there() -> None:
    """One that is away hides nothing of the others, of which its failure may be the cause."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
    with deployed.server(*options) as one, deployed.server(*options) as other:
        with one.client() as client, other.client() as second:
            client.execute_command("CLUSTER ADDSLOTS", *range(8000))
            second.execute_command("CLUSTER ADDSLOTS", *range(8000, 16384))
            client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)
            until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
            deployed.deploy(client)
        other.kill9()
        done = gearsync("status", "--redis", one.url)
        document = json.loads(gearsync("status", "--json", "--redis", one.url).stdout)
    assert done.returncode == 1
    assert f"127.0.0.1:{other.port}  away" in done.stdout
    assert "people            1  active" in done.stdout
    assert f"Redis at 127.0.0.1:{other.port} can't be reached" in done.stdout
    there, away = sorted(document["shards"], key=lambda each: "error" in each)
    assert [each["name"] for each in there["deployments"]] == ["people"]
    assert away["address"] == f"127.0.0.1:{other.port}" and "can't be reached" in away["error"]


def test_wait_is_done_at_once_when_nothing_waits(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    done = gearsync("wait", "--redis", server.url, "--timeout", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wait_fails_in_time_and_says_what_waits(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    for number in range(3):
        client.hset(f"person:{number}", "name", "Ada")
    started = time.monotonic()
    done = gearsync("wait", "--redis", server.url, "--timeout", "0.5")
    assert 0.5 < time.monotonic() - started < 60
    assert (done.returncode, done.stdout) == (1, "")
    assert "after 0.5 s, not all changes are in SQL" in done.stderr
    assert f"people on 127.0.0.1:{server.port}: 3 changes wait." in done.stderr
    assert "Try: " in done.stderr


def test_wait_ends_when_the_worker_is_through_whatever_comes_later(
    server: RedisServer, client: redis.Redis
) -> None:
    deployed.deploy(client)
    client.hset("person:1", "name", "Ada")
    command = [*GEARSYNC, "wait", "--redis", server.url, "--timeout", "30"]
    with subprocess.Popen(command, env=environment()) as waiting:
        until(lambda: json.loads(client.execute_command("GEARSYNC.STATUS"))["barriers"] == 1)
        [(stream, _)] = deployed.lanes(client)
        [(marked, _)] = deployed.changes(client)
        client.hset("person:2", "name", "Grace")
        assert waiting.poll() is None
        client.execute_command("GEARSYNC.ACK", stream, marked)
        assert waiting.wait(10) == 0
    assert client.xlen(stream) == 1


def test_wait_for_one_key_and_for_one_deployment(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    deployed.deploy(client, "orders", "order")
    client.hset("order:1", "name", "x")
    assert gearsync("wait", "--redis", server.url, "--timeout", "0.2", "--key", "person:1").returncode == 0
    assert (
        gearsync("wait", "--redis", server.url, "--timeout", "0.2", "--deployment", "people").returncode == 0
    )
    assert gearsync("wait", "--redis", server.url, "--timeout", "0.2", "--key", "order:1").returncode == 1
    late = gearsync("wait", "--redis", server.url, "--timeout", "0.2", "--deployment", "orders")
    assert late.returncode == 1
    assert "people" not in late.stderr


def test_wait_for_an_unknown_deployment_names_the_known(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    done = gearsync("wait", "--redis", server.url, "--deployment", "poeple")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no deployment poeple on ")
    assert "Try: one of people." in done.stderr


def test_wait_when_the_server_goes_away(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client)
    client.hset("person:1", "name", "Ada")
    command = [*GEARSYNC, "wait", "--redis", server.url, "--timeout", "30"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as waiting:
        until(lambda: json.loads(client.execute_command("GEARSYNC.STATUS"))["barriers"] == 1)
        threading.Thread(target=server.kill9).start()
        _, errors = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert errors.startswith(f"Error: Redis at 127.0.0.1:{server.port} can't be reached: ")
    assert "Traceback" not in errors


def test_wrong_usage_is_exit_code_2(server: RedisServer) -> None:
    assert gearsync("wait", "--redis", server.url, "--timeout", "soon").returncode == 2
    assert gearsync("status", "--colour").returncode == 2
