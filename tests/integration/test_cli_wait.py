"""gearsync wait on shards that change meanwhile: lanes that move, and replicas that take over."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from deploy import barrier
from deploy.reaching import shards
from deploy.reaching.shards import Shard
from tests.chaos.pair import SentinelServer
from tests.cluster import Cluster
from tests.integration import deployed
from tests.integration.command import GEARSYNC, environment, gearsync, until
from tests.servers import RedisServer


def node(*options: str) -> RedisServer:
    # A primary without slots stays one: else it would become a replica of who has taken them.
    return deployed.server("--cluster-allow-replica-migration", "no", *options)


@contextlib.contextmanager
def deployed_cluster(**shape: int) -> Iterator[Cluster]:
    """A cluster with a deployment on each primary; this test is the worker of all of them."""
    with Cluster(node, **shape) as cluster:
        for number in cluster.primaries():
            deployed.deploy(cluster.clients[number])
        yield cluster


def barriers(client: redis.Redis) -> int:
    return int(json.loads(client.execute_command("GEARSYNC.STATUS"))["barriers"])


def key_on(cluster: Cluster, number: int) -> str:
    """A covered key of a shard."""
    return key_in(set(cluster.slots(number)))


def key_in(slots: set[int]) -> str:
    candidates = (f"person:{each}" for each in itertools.count())
    return next(key for key in candidates if key_slot(key.encode()) in slots)


@contextlib.contextmanager
def waiting(url: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``gearsync wait`` in the background."""
    command = [*GEARSYNC, "wait", "--redis", url, "--timeout", "40", *words]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ends_well(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_a_wait_that_is_interrupted_ends_at_once() -> None:
    """And not when its time is over, for which those wait whose database is down."""
    with deployed.server() as server, server.client() as client:
        deployed.deploy(client)
        client.hset("person:1", "name", "Ada")
        with waiting(server.url) as process:
            until(lambda: barriers(client) == 1)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1
        until(lambda: barriers(client) == 0)


def one_slot_with_a_change(cluster: Cluster) -> int:
    """Leave the first shard one slot, that of its lanes, where a change waits; return the slot."""
    one = cluster.clients[0]
    slot = key_slot(json.loads(one.execute_command("GEARSYNC.STATUS"))["tag"].encode())
    cluster.move_slot(8000 if slot != 8000 else 8001, 1)
    cluster.move_empty_slots(0, 1, {slot})
    for client in cluster.clients:
        # The marks of the slots that moved.
        deployed.apply_all(client)
    one.hset(key_in({slot}), "name", "Ada")
    return slot


@pytest.mark.parametrize("words", [(), ("--deployment", "people")], ids=["all", "one-deployment"])
def test_what_moves_to_another_shard_meanwhile_is_waited_for_there(words: tuple[str, ...]) -> None:
    with deployed_cluster(primaries=2) as cluster:
        slot = one_slot_with_a_change(cluster)
        with waiting(cluster.url, *words) as process:
            until(lambda: barriers(cluster.clients[0]) == 1)
            cluster.move_slot(slot, 1)
            until(lambda: barriers(cluster.clients[0]) == 0)
            until(lambda: barriers(cluster.clients[1]) == 1 or process.poll() is not None)
            assert process.poll() is None, "the change waits on the other shard"
            deployed.apply_all(cluster.clients[1])
            ends_well(process)


def test_a_lane_that_was_away_when_its_shard_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back before anybody looks again: the list of lanes is as it was."""
    with deployed_cluster(primaries=2) as cluster:
        slot = one_slot_with_a_change(cluster)
        before = [deployed.lanes(each) for each in cluster.clients]
        asked: list[str] = []
        ask: Callable[..., bool] = barrier._wait_one
        there = f"127.0.0.1:{cluster.nodes[1].port}"

        def ask_at_the_worst_moment(shard: Shard, *arguments: Any) -> bool:
            is_first = shard.address not in asked
            if is_first and shard.address != there:
                until(lambda: there in asked)
                cluster.move_slot(slot, 1)
            reached = ask(shard, *arguments)
            if is_first and shard.address != there:
                cluster.move_slot(slot, 0)
                until(lambda: [deployed.lanes(each) for each in cluster.clients] == before)
            asked.append(shard.address)
            return reached

        monkeypatch.setattr(barrier, "_wait_one", ask_at_the_worst_moment)
        with shards.connect(cluster.url) as found:
            assert not barrier.wait(found, 3)
        assert len(asked) == 4
        for client in cluster.clients:
            deployed.apply_all(client)
        with shards.connect(cluster.url) as found:
            assert barrier.wait(found, 3)


@pytest.mark.parametrize("how", ["by-hand", "kill"])
def test_a_replica_that_is_promoted_meanwhile_is_waited_for(how: str) -> None:
    """Also when the promoted one's old primary is the node that the user named."""
    with deployed_cluster(primaries=3, replicas=1) as cluster:
        cluster.clients[0].hset(key_on(cluster, 0), "name", "Ada")
        replica = cluster.replica_of(0)
        until(lambda: bool(cluster.clients[replica].keys("gearsync:*:lane:*")))
        with waiting(cluster.nodes[0].url) as process:
            until(lambda: barriers(cluster.clients[0]) == 1)
            assert (cluster.fail_over(0) if how == "by-hand" else cluster.kill_primary(0)) == replica
            new = cluster.clients[replica]
            until(lambda: barriers(new) == 1 or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            deployed.apply_all(new)
            ends_well(process)


def test_a_replica_that_a_sentinel_promotes_meanwhile_is_waited_for() -> None:
    with deployed.server() as primary, primary.client() as one:
        deployed.deploy(one)
        with deployed.server("--replicaof", "127.0.0.1", str(primary.port)) as second:
            with second.client() as two, SentinelServer(primary) as sentinel:
                one.hset("person:1", "name", "Ada")
                until(lambda: bool(two.keys("gearsync:*:lane:*")))
                with redis.Redis(port=sentinel.port) as knows:
                    until(lambda: len(knows.sentinel_slaves("shard")) == 1)
                with waiting(f"redis+sentinel://127.0.0.1:{sentinel.port}/shard") as process:
                    until(lambda: barriers(one) == 1)
                    primary.kill9()
                    until(lambda: sentinel.primary_port() == second.port)
                    until(lambda: barriers(two) == 1 or process.poll() is not None)
                    assert process.poll() is None, process.communicate()
                    deployed.apply_all(two)
                    ends_well(process)


def test_a_shard_that_stays_away_ends_the_wait_in_time() -> None:
    with deployed_cluster(primaries=2) as cluster:
        cluster.nodes[0].kill9()
        started = time.monotonic()
        done = gearsync("wait", "--redis", cluster.nodes[1].url, "--timeout", "2")
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: Redis at 127.0.0.1:{cluster.nodes[0].port} can't be reached: ")
        assert time.monotonic() - started < 60


def test_a_shard_that_goes_away_for_good_ends_the_wait_in_time() -> None:
    with deployed_cluster(primaries=2) as cluster:
        cluster.clients[0].hset(key_on(cluster, 0), "name", "Ada")
        started = time.monotonic()
        with waiting(cluster.nodes[1].url, "--timeout", "5") as process:
            until(lambda: barriers(cluster.clients[0]) == 1)
            cluster.nodes[0].kill9()
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert errors.startswith(f"Error: Redis at 127.0.0.1:{cluster.nodes[0].port} can't be reached: ")
        assert 5 <= time.monotonic() - started < 60


def test_a_new_shard_without_the_deployment_does_not_matter() -> None:
    with deployed_cluster(primaries=2) as cluster:
        cluster.add_primary()
        cluster.clients[0].hset(key_on(cluster, 0), "name", "Ada")
        words = ("wait", "--redis", cluster.url, "--deployment", "people")
        late = gearsync(*words, "--timeout", "0.5")
        assert late.returncode == 1
        assert "1 change waits." in late.stderr
        deployed.apply_all(cluster.clients[0])
        assert gearsync(*words, "--timeout", "5").returncode == 0
        unknown = gearsync("wait", "--redis", cluster.url, "--deployment", "poeple")
        assert unknown.returncode == 1
        assert unknown.stderr.startswith("Error: there is no deployment poeple on ")
        assert "Try: one of people." in unknown.stderr


def test_a_single_server_is_asked_once() -> None:
    with deployed.server() as server, server.client() as client:
        deployed.deploy(client)
        client.config_resetstat()
        assert gearsync("wait", "--redis", server.url).returncode == 0
        counts: dict[str, Any] = client.info("commandstats")
        # A key that is no UTF-8, and as long as it takes.
        words = ("--key", "person:\udcff", "--timeout", "inf")
        assert gearsync("wait", "--redis", server.url, *words).returncode == 0
    # DEPLOYMENTS when the server is looked at, to see that it has the module.
    found = {name.partition("_")[2]: each["calls"] for name, each in counts.items() if "gearsync" in name}
    assert found == {"gearsync.deployments": 1, "gearsync.wait": 1}
