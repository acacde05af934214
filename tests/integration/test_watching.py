"""What the figures say of a deployment at work, on each host: status --watch and the metrics show these."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from deploy.watching import metrics
from deploy.watching.figures import DeploymentFigures, Sampler
from deploy.watching.look import Watch
from tests.hosts import HOSTS
from tests.integration import deployed
from tests.integration.command import GEARSYNC, environment
from tests.integration.deploying import eventually
from tests.integration.system import System
from tests.servers import RedisServer, run_sql

FUNCTIONS = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="crm", backlog={"entries": 1000})
first = Target("env:FIRST_DB_URL", name="first")
second = Target("env:SECOND_DB_URL", name="second")

WriteBehind(keys="person:{id}", table="people", columns=["name"], target=first)
WriteBehind(keys="pet:{id}", table="pets", columns=["name"], target=second)
"""


class World(NamedTuple):
    system: System
    client: redis.Redis

    def figures(self, sampler: Sampler, at: float) -> DeploymentFigures:
        """Return the one deployment's figures."""
        document = {"address": "h:1", "role": "primary", "server": "7", "epoch": 1}
        (shard,) = sampler.feed([{**document, "deployments": [self.system.status()]}], at)
        return shard.deployments[0]

    def target(self, name: str) -> dict[str, Any]:
        return self.system.target(name)


@pytest.fixture(scope="module", params=HOSTS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("watching")
    urls = {f"{name.upper()}_DB_URL": f"sqlite:///{folder}/{name}.db" for name in ("first", "second")}
    run_sql(urls["FIRST_DB_URL"], "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(40))")
    run_sql(urls["SECOND_DB_URL"], "CREATE TABLE pets (id INTEGER PRIMARY KEY, name VARCHAR(40))")
    system = System(folder, FUNCTIONS, urls, host=request.param)
    with system as client:
        yield World(system, client)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server on which nothing is deployed."""
    with deployed.server() as running:
        yield running


def test_each_function_and_target_has_its_counts_and_rates(world: World) -> None:
    sampler = Sampler()
    before = world.figures(sampler, 0.0)
    done = world.target("first").get("changes", 0)
    for number in range(20):
        world.client.hset("person:1", "name", f"n{number}")
    world.client.hset("person:no-number", "name", "refused")
    world.client.hset("pet:1", "name", "Rex")
    world.system.wait()
    # One more is a dead letter.
    eventually(lambda: world.target("first").get("changes") == done + 20)
    eventually(lambda: bool(world.target("second").get("changes")))

    after = world.figures(sampler, 2.0)

    rates = {each.name: (each.flow.rate_in, each.flow.applied) for each in after.functions}
    assert rates == {"people": (10.5, 20), "pets": (0.5, 1)}
    assert {each.name: each.flow.captured for each in after.targets} == {"first": 21, "second": 1}
    assert {each.name: each.dead_letters for each in after.targets} == {"first": 1, "second": 0}
    assert {each.state for each in after.functions} == {each.state for each in after.targets} == {"running"}
    assert (after.flow.captured or 0) - (before.flow.captured or 0) == 22
    assert after.lag.p99_ms is not None


def test_the_histogram_has_each_change_once(world: World) -> None:
    world.client.hset("pet:9", "name", "Tom")
    world.system.wait()
    told = world.target("second")
    eventually(lambda: world.target("second")["lag_histogram"]["count"] == world.target("second")["changes"])
    assert sorted(told["lag_histogram"]["counts"]) == told["lag_histogram"]["counts"]
    assert told["commits"] >= 1


def test_the_metrics_of_a_host(world: World) -> None:
    world.client.hset("pet:3", "name", "Ben")
    world.system.wait()
    with Watch(world.system.server.url) as watched:
        shard = f'shard="127.0.0.1:{world.system.server.port}"'
        captured = f'gearsync_changes_captured_total{{deployment="crm",{shard},target="second"}} '
        applied = captured.replace("captured", "applied")

        def values() -> set[str]:
            lines = metrics.text_of(watched).splitlines()
            return {line.rpartition(" ")[2] for line in lines if line.startswith((captured, applied))}

        # All that was captured for it is in SQL, once the worker has reported.
        eventually(lambda: len(values()) == 1 and values() != {"0.0"})
        assert f'gearsync_backlog_limit_entries{{deployment="crm",{shard}}}' in metrics.text_of(watched)


def test_a_server_that_goes_and_comes_back(server: RedisServer) -> None:
    sampler = Sampler()
    with Watch(server.url) as watched:
        assert [each.up for each in sampler.feed(watched.look(), 1.0)] == [True]
        server.kill9()
        (away,) = sampler.feed(watched.look(), 2.0)
        server.start()
        eventually(lambda: sampler.feed(watched.look(), 3.0)[0].up)
    assert not away.up
    assert f"Redis at 127.0.0.1:{server.port} can't be reached" in away.error


def test_the_live_view_ends_with_q_and_leaves_the_terminal_as_it_was(server: RedisServer) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [*GEARSYNC, "status", "--watch", "--interval", "30", "--redis", server.url]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm")
    ) as live:
        shown = b""
        while b"Nothing is deployed here" not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, b"q")
        assert live.wait(30) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_json_is_one_document_a_line_until_sigterm(server: RedisServer) -> None:
    command = [*GEARSYNC, "status", "--watch", "--json", "--interval", "0.1", "--redis", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as live:
        assert live.stdout is not None
        first, second = (json.loads(live.stdout.readline()) for _ in range(2))
        live.terminate()
        assert live.wait(30) == 0
    assert first["at"] < second["at"]
    assert second["shards"][0]["up"] and second["attention"] == []


def test_the_oldest_change_that_waits() -> None:
    with deployed.server() as server, server.client() as client:
        deployed.deploy(client)
        client.hset("person:1", "name", "Ada")
        time.sleep(0.05)
        client.hset("person:2", "name", "Eve")
        (target,) = json.loads(client.execute_command("GEARSYNC.STATUS"))["deployments"][0]["targets"]
        (lane,) = target["lanes"]
        assert 50 <= lane["oldest_ms"] < 10_000
        assert lane["bytes"] > 0
