"""The deployments, the waiting changes and the epoch outlive everything but an undeploy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import pytest
import redis

from tests.cluster import Cluster
from tests.integration.module.driving import (
    ALWAYS,
    Change,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    deployment_status,
    lane_keys,
    lanes,
    module_server,
    server_version,
    status,
    wait_for,
)
from tests.sanitizers import module_path
from tests.servers import RedisServer


def settle(client: redis.Redis) -> None:
    """Wait until the epoch of this start is in the keyspace; a kill before may use it once more."""
    wait_for(lambda: client.hget("gearsync:{0}:registry", "meta"), "the registry")
    meta = f"{status(client)['source']} {status(client)['epoch']}".encode()
    wait_for(lambda: client.hget("gearsync:{0}:registry", "meta") == meta, "the epoch is written")


def crash(server: RedisServer) -> None:
    server.kill9()
    server.start()


def end(server: RedisServer) -> None:
    server.terminate()
    server.start()


def shut_down(server: RedisServer) -> None:
    with connect(server) as client:
        client.shutdown()
    assert server.process is not None
    server.process.wait(20)
    server.process = None
    server.start()


def reload(server: RedisServer) -> None:
    with connect(server) as client:
        client.execute_command("DEBUG", "RELOAD")


def load_aof(server: RedisServer) -> None:
    with connect(server) as client:
        client.execute_command("DEBUG", "LOADAOF")


def rewrite_and_crash(server: RedisServer) -> None:
    with connect(server) as client:
        client.bgrewriteaof()
        wait_for(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, "the rewrite", 30)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    crash(server)


def save_and_crash(server: RedisServer) -> None:
    with connect(server) as client:
        client.save()
    crash(server)


NO_PREAMBLE = (*ALWAYS, "--aof-use-rdb-preamble", "no")
PREAMBLE = (*ALWAYS, "--aof-use-rdb-preamble", "yes")
WAYS: dict[str, tuple[Sequence[str], Callable[[RedisServer], None]]] = {
    "rdb": ((), save_and_crash),
    "rdb at shutdown": (("--save", "3600", "1"), shut_down),
    "aof, killed": (NO_PREAMBLE, crash),
    "aof, ended": (NO_PREAMBLE, end),
    "aof rewritten": (NO_PREAMBLE, rewrite_and_crash),
    "aof with preamble, killed": (PREAMBLE, crash),
    "aof with preamble, rewritten": (PREAMBLE, rewrite_and_crash),
    "aof, shutdown": (PREAMBLE, shut_down),
    "debug reload": ((), reload),
    "debug loadaof": (ALWAYS, load_aof),
}


@pytest.mark.parametrize("way", WAYS)
def test_everything_is_kept(way: str) -> None:
    options, restart = WAYS[way]
    with module_server(*options) as server:
        with connect(server) as client:
            deploy(client, Function(), Function("pet:{id}", ["name"], "t2"), targets=["t1", "t2"], lanes=2)
            deploy(client, name="others", payload='{"x": "\\r\\n\u00e9\u0000"}', version=7)
            before = known(client)
            settle(client)
            client.hset("person:1", "first", "A")
            client.hset("pet:1", "name", "P")
            waiting, epoch = changes(client), status(client)["epoch"]
            length = len(changes(client, target="t2"))
        for more in (1, 2):
            restart(server)
            with connect(server) as client:
                settle(client)
                assert known(client) == before
                assert changes(client) == waiting and len(changes(client, target="t2")) == length == 1
                assert status(client)["epoch"] >= epoch + more
        with connect(server) as client:
            client.hset("person:2", "first", "B")
            assert Change("u", status(client)["epoch"], "person:2", {"first": "B"}) in changes(client)
            assert acknowledge(client) == 3 and changes(client) == []


def known(client: redis.Redis) -> list[object]:
    """What a restart must not change."""
    found = client.execute_command("GEARSYNC.DEPLOYMENTS")
    return [sorted(found), status(client)["source"], lanes(client), lanes(client, target="t2")]


def test_draining_and_retired_lanes_are_kept() -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client, lanes=2)
            for number in range(4):
                client.hset(f"person:{number}", "first", "A")
            deploy(client, lanes=3, version=2)
            client.hset("person:5", "first", "A")
            deploy(client, Function("pet:{id}"), name="pets")
            client.hset("pet:1", "first", "A")
            client.execute_command("GEARSYNC.UNDEPLOY", "pets")
            before, pets = lanes(client), lanes(client, "pets")
            assert len(before) == 5
        crash(server)
        with connect(server) as client:
            assert sorted(lanes(client)) == sorted(before) and lanes(client, "pets") == pets
            assert lanes(client)[2:] == before[2:]
            assert deployment_status(client, "pets")["state"] == "draining"
            client.hset("pet:2", "first", "A")
            assert len(changes(client, "pets")) == 1
            acknowledge(client)
            acknowledge(client, "pets")
            wait_for(lambda: len(status(client)["deployments"]) == 1, "pets go")
            wait_for(lambda: len(lanes(client)) == 3, "retired lanes go")


def test_the_registry_survives_a_server_without_the_module() -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client)
            client.hset("person:1", "first", "A")
            waiting = changes(client)
        server.kill9()
        module, server.module = server.module, None
        server.start()
        with connect(server) as client:
            assert len(client.keys("gearsync:*")) == 2
            client.hset("person:1", "first", "not captured")
        server.kill9()
        server.module = module
        server.start()
        with connect(server) as client:
            if server_version() < (7, 0):
                # What it does for torn changes finds this one as well (docs/design.md, "Redis 6.2").
                waiting.append(Change("r", status(client)["epoch"], "person:1", {"first": "not captured"}))
            assert changes(client) == waiting
            client.hset("person:1", "first", "B")
            assert changes(client)[-1].image == {"first": "B"} and changes(client)[-1].epoch > 1


def test_unload_and_load(client: redis.Redis) -> None:
    deploy(client, lanes=2)
    for cycle in range(24):
        client.hset("person:1", "first", cycle)
        epoch = status(client)["epoch"]
        client.execute_command("MODULE", "UNLOAD", "gearsync")
        client.hset("person:1", "first", "not captured")
        client.execute_command("MODULE", "LOAD", module_path(), "SUPERVISE", "no")
        assert status(client)["epoch"] == epoch + 1
        assert [each.image["first"] for each in changes(client)] == [str(each) for each in range(cycle + 1)]


def test_bad_module_arguments_are_refused(client: redis.Redis) -> None:
    client.execute_command("MODULE", "UNLOAD", "gearsync")
    for arguments in (["SUPERVISE"], ["SUPERVISE", "maybe"], ["COLOUR", "red"]):
        with pytest.raises(redis.ResponseError):
            client.execute_command("MODULE", "LOAD", module_path(), *arguments)
    client.execute_command("MODULE", "LOAD", module_path(), "supervise", "NO")
    assert status(client)["deployments"] == []


def test_epoch_is_raised_by_hand_and_kept(client: redis.Redis) -> None:
    deploy(client)
    raised = 5 << 20
    assert client.execute_command("GEARSYNC.EPOCH", raised) == raised
    client.hset("person:1", "first", "A")
    assert changes(client)[-1].epoch == raised
    for bad in (raised, 0, -1, "x", "9" * 30, 1 << 63):
        with pytest.raises(redis.ResponseError, match="raised"):
            client.execute_command("GEARSYNC.EPOCH", bad)
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("GEARSYNC.EPOCH") == raised + 1


def test_a_lost_registry_write_takes_the_epoch_from_the_lanes(client: redis.Redis) -> None:
    deploy(client)
    epoch = client.execute_command("GEARSYNC.EPOCH", status(client)["epoch"] + 77)
    client.hset("person:1", "first", "A")
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("HSET", "gearsync:{0}:registry", "meta", f"{status(client)['source']} 3")
        pipe.execute_command("DEBUG", "RELOAD")
        pipe.execute()
    assert client.execute_command("GEARSYNC.EPOCH") == epoch + 1


def test_a_deleted_registry_is_written_again(client: redis.Redis) -> None:
    deploy(client)
    before = client.hgetall("gearsync:{0}:registry")
    client.delete("gearsync:{0}:registry")
    wait_for(lambda: client.hgetall("gearsync:{0}:registry") == before, "the registry comes back")


DAMAGED = ["", "*", "*1\r\n$3\r\nab", "*99999999999\r\n", "*2\r\n$1\r\na\r\n$-1\r\n", "x" * 99]


@pytest.mark.parametrize("value", DAMAGED)
def test_a_damaged_registry_stops_nothing_else(client: redis.Redis, value: str) -> None:
    deploy(client)
    client.hset("gearsync:{0}:registry", "deployment:bad", value)
    client.hset("gearsync:{0}:registry", "retired:nonsense", value)
    client.execute_command("DEBUG", "RELOAD")
    assert [each["name"] for each in status(client)["deployments"]] == ["people"]
    client.hset("person:1", "first", "A")
    assert len(changes(client)) == 1


@pytest.mark.parametrize("lane", ["0.0", "1.1", "-1.1", "0.-1", "2147483647.0"])
def test_a_lane_that_none_of_ours_is_called_stops_nothing(client: redis.Redis, lane: str) -> None:
    deploy(client)
    client.hset("person:1", "first", "A")
    waiting = client.dump(lanes(client)[0])
    assert waiting is not None
    acknowledge(client)
    client.restore(f"gearsync:{{0}}:lane:012345678901:people:t1:{lane}", 0, waiting)
    client.execute_command("GEARSYNC.MARK")
    assert client.execute_command("GEARSYNC.WAITING", 0, "person:1") == []
    assert len(lanes(client)) == 1


def test_a_hold_that_says_a_wrong_length_stops_nothing(client: redis.Redis) -> None:
    deploy(client)
    for field, value in {"a": f"1 5 {2**64 - 21} 0 x", "b": f"1 5 0 {2**64 - 21} x"}.items():
        client.hset("gearsync:{0}:registry", f"hold:{field}:people", value)
    client.execute_command("DEBUG", "RELOAD")
    assert [each["name"] for each in status(client)["deployments"]] == ["people"]


def test_a_lane_that_somebody_deletes_goes_on(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "first", "A")
    client.delete(lanes(client)[0])
    assert client.execute_command("GEARSYNC.WAIT", 100) == b"OK"
    client.hset("person:2", "first", "B")
    assert [each.key for each in changes(client)] == ["person:2"]
    assert len(lane_keys(client)) == 1


def discard(server: RedisServer) -> list[bytes]:
    """Capture, and undeploy with DISCARD; return the lanes that are there then, and after a crash."""
    with connect(server) as client:
        client.hset("person:1", "first", "Ada")
        assert len(changes(client)) == 1
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        found = client.keys("gearsync:*:lane:*")
    crash(server)
    with connect(server) as client:
        return [*found, *client.keys("gearsync:*:lane:*")]


def test_what_was_discarded_does_not_come_back_where_del_is_renamed() -> None:
    with module_server(*ALWAYS, "--rename-command", "DEL", "") as server:
        with connect(server) as client:
            deploy(client)
        assert discard(server) == []


def test_what_was_discarded_while_the_cluster_was_down_does_not_come_back() -> None:
    with Cluster(functools.partial(module_server, *ALWAYS), primaries=2) as cluster:
        client = cluster.clients[0]
        name = next(f"person:{each}" for each in range(100) if cluster.owner(f"person:{each}") == 0)
        deploy(client)
        client.hset(name, "first", "Ada")
        client.execute_command("CLUSTER DELSLOTS", 8000)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "fail", "it is down")
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        assert client.keys("gearsync:*:lane:*") == []
        crash(cluster.nodes[0])
        client.execute_command("CLUSTER ADDSLOTS", 8000)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "it is up")
        deploy(client)
        assert changes(client) == []
