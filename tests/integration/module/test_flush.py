"""A flush takes the keys, never the changes that wait nor the deployments."""

from __future__ import annotations

import contextlib
import functools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.integration.module.driving import (
    ALWAYS,
    PLAIN_AOF,
    Change,
    Function,
    acknowledge,
    aof_commands,
    aof_files,
    changes,
    connect,
    deploy,
    key_changes,
    lane_keys,
    lanes,
    module_server,
    server_version,
    status,
    wait_for,
)
from tests.integration.module.test_replication import catch_up, pair, waiting
from tests.servers import RedisServer

FLUSHES = ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB ASYNC", "FLUSHALL SYNC", "FLUSHDB SYNC"]


def flush(client: redis.Redis, line: str) -> None:
    client.execute_command(*line.split(" "))


def fill(client: redis.Redis, count: int = 10) -> None:
    for number in range(count):
        client.hset(f"person:{number}", "first", number)


@pytest.mark.parametrize("line", FLUSHES)
@pytest.mark.parametrize("inside", ["alone", "multi", "script"])
def test_waiting_changes_are_kept(client: redis.Redis, line: str, inside: str) -> None:
    deploy(client, lanes=2)
    fill(client)
    dead = lanes(client)[0].replace(":lane:", ":dead:")
    client.execute_command("XADD", dead, "1-1", "key", "person:99")
    client.hset("gearsync:{0}:wheels:people", "a.whl", b"\x00wheel")
    before, epoch = changes(client), status(client)["epoch"]
    if inside == "multi":
        with client.pipeline(transaction=True) as pipe:
            pipe.execute_command("HSET", "person:0", "first", "before")
            pipe.execute_command(*line.split(" "))
            pipe.execute_command("HSET", "person:0", "first", "after")
            pipe.execute()
    elif inside == "script":
        client.eval(f"redis.call('{line.split()[0]}')", 0)
    else:
        flush(client, line)
    found = changes(client)
    assert [each for each in found if each in before] == before
    assert len(client.keys("person:*")) == (1 if inside == "multi" else 0)
    if inside == "multi":
        assert found[-1].image == {"first": "after"} or {"first": "after"} in [each.image for each in found]
    else:
        assert found == before
    assert client.xlen(dead) == 1 and client.hget("gearsync:{0}:wheels:people", "a.whl") == b"\x00wheel"
    assert status(client)["epoch"] > epoch
    client.hset("person:1", "first", "new")
    assert Change("u", status(client)["epoch"], "person:1", {"first": "new"}) in changes(client)
    assert [each["name"] for each in status(client)["deployments"]] == ["people"]


def test_another_database(client: redis.Redis) -> None:
    pets = Function("pet:{id}", db=1, target="t2", flush="DELETE")
    deploy(client, Function(flush="DELETE"), pets, targets=["t1", "t2"])
    fill(client, 3)
    before, epoch = changes(client), status(client)["epoch"]
    client.execute_command("SELECT", 1)
    client.hset("pet:1", "first", "A")
    client.flushdb()
    client.execute_command("SELECT", 0)
    assert changes(client) == before
    # Where the module heals torn changes it remembers each flush, by an epoch of its own.
    assert status(client)["epoch"] == epoch + (1 if server_version() < (7, 0) else 0)
    assert [each.op for each in changes(client, target="t2")] == ["u", "f"]


@pytest.mark.parametrize("line", FLUSHES)
def test_delete_policy_writes_one_flush_after_the_changes(client: redis.Redis, line: str) -> None:
    deploy(client, Function(flush="DELETE"), Function("pet:{id}", flush="DELETE"), Function("car:{id}"))
    fill(client, 3)
    flush(client, line)
    client.hset("person:1", "first", "new")
    found = changes(client)
    assert [each.op for each in found] == ["u", "u", "u", "f", "u"]
    assert found[3].key == "" and found[3].image == {} and found[3].epoch == found[4].epoch > found[2].epoch


def test_ids_do_not_go_back(client: redis.Redis) -> None:
    deploy(client)
    fill(client, 1)
    stream = lanes(client)[0]
    last = client.xinfo_stream(stream)["last-generated-id"]
    acknowledge(client)
    client.flushall()
    client.hset("person:1", "first", "A")
    now = client.xinfo_stream(stream)["last-generated-id"]
    assert [int(part) for part in now.split(b"-")] > [int(part) for part in last.split(b"-")]


def test_without_a_deployment_a_flush_leaves_nothing(client: redis.Redis) -> None:
    client.set("a", "b")
    client.flushall()
    assert client.keys("*") == []


def test_a_refused_reload_is_no_excuse_to_lose_changes() -> None:
    with module_server() as server, connect(server) as client:
        deploy(client)
        fill(client)
        client.execute_command("ACL", "SETUSER", "default", "-debug")
        with pytest.raises(redis.ResponseError):
            client.execute_command("DEBUG", "RELOAD")
        client.flushall()
        assert len(changes(client)) == 10


@pytest.mark.parametrize("line", FLUSHES[:4])
@pytest.mark.parametrize("policy", ["KEEP", "DELETE"])
def test_replica_and_crash(line: str, policy: str) -> None:
    with pair(*ALWAYS) as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary, Function(flush=policy))
        fill(primary)
        # One packet, so that captures stand between the flush and what the module does after it.
        with primary.pipeline(transaction=False) as pipe:
            pipe.execute_command("HSET", "person:1", "first", "before")
            pipe.execute_command(*line.split(" "))
            pipe.execute_command("HSET", "person:1", "first", "after")
            pipe.execute()
        expected = [*(["u"] * 11), *(["f"] if policy == "DELETE" else []), "u"]
        assert [each.op for each in changes(primary)] == expected
        catch_up(primary, replica)
        assert waiting(replica) == waiting(primary)
        assert replica.hgetall("gearsync:{0}:registry") == primary.hgetall("gearsync:{0}:registry")
        before = waiting(primary)
        for server in servers:
            server.kill9()
        servers[0].start()
        assert waiting(primary) == before


@pytest.mark.parametrize("line", FLUSHES[:4])
def test_crash_right_after_a_flush(line: str) -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client, lanes=2)
            fill(client)
            flush(client, line)
            client.hset("person:1", "first", "after")
            before = waiting(client)
        server.kill9()
        server.start()
        with connect(server) as client:
            assert waiting(client) == before and len(lane_keys(client)) == 2
            assert [each["name"] for each in status(client)["deployments"]] == ["people"]
            assert client.keys("person:*") == [b"person:1"]


@pytest.mark.parametrize("inside", ["multi", "multi with keys", "script"])
def test_waiting_changes_of_a_cluster_are_kept(inside: str) -> None:
    with Cluster(functools.partial(module_server, *ALWAYS), primaries=1) as cluster:
        client = cluster.clients[0]
        deploy(client)
        fill(client)
        before = changes(client)
        if inside == "script":
            client.eval("redis.call('HSET', KEYS[1], 'first', 'new') redis.call('FLUSHALL')", 1, "person:1")
        else:
            with client.pipeline(transaction=True) as pipe:
                if inside == "multi with keys":
                    pipe.execute_command("HSET", "person:1", "first", "new")
                pipe.execute_command("FLUSHALL")
                if server_version() < (7, 4):
                    pipe.execute()
                else:
                    with pytest.raises(redis.ResponseError, match="gearsync can't keep its changes"):
                        pipe.execute()
        assert changes(client)[:10] == before
        assert len(client.keys("gearsync:*:registry")) == 1


def lengths(client: redis.Redis) -> list[int]:
    [deployment] = status(client)["deployments"]
    return sorted(lane["length"] for target in deployment["targets"] for lane in target["lanes"])


def test_a_cluster_keeps_what_waits_also_where_it_takes_no_command_on_it() -> None:
    """In a slot that is on its way, and while it is down, also if the server dies then."""
    with Cluster(functools.partial(module_server, *ALWAYS), primaries=2) as cluster:
        client = cluster.clients[0]
        for each in cluster.clients:
            deploy(each, Function("person:{{a}}:{id}"), Function("person:{{b}}:{id}"))
        mine = next(name for name in "ab" if cluster.owner(f"{{{name}}}") == 0)
        for number in range(10):
            client.hset(f"person:{{{mine}}}:{number}", "first", number)
        before = key_changes(client)
        home = status(client)["tag"]
        cluster.open_slot(key_slot(home.encode()), 0, 1)
        wait_for(lambda: status(client)["tag"] != home, "lanes go on elsewhere")
        client.flushall()
        assert len(before) == 10 and key_changes(client) == before
        client.execute_command("CLUSTER DELSLOTS", 8000)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "fail", "it is down")
        waiting = lengths(client)
        client.flushall()
        # The lane that leaves is stamped with each epoch.
        assert all(now >= before for now, before in zip(lengths(client), waiting))
        cluster.nodes[0].kill9()
        cluster.nodes[0].start()
        assert all(now >= before for now, before in zip(lengths(client), waiting))
        client.execute_command("CLUSTER ADDSLOTS", 8000)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "it is up")
        assert key_changes(client) == before


def test_what_waits_is_kept_where_commands_are_renamed() -> None:
    renamed = [word for name in ("DUMP", "RESTORE", "DEL") for word in ("--rename-command", name, "")]
    with module_server(*ALWAYS, *renamed) as server:
        with connect(server) as client:
            deploy(client)
            fill(client)
            before = changes(client)
            client.hset("gearsync:{0}:wheels:people", "a.whl", b"\x00wheel")
            client.flushall()
            assert changes(client) == before
        server.kill9()
        server.start()
        with connect(server) as client:
            assert changes(client) == before
            assert client.hget("gearsync:{0}:wheels:people", "a.whl") == b"\x00wheel"


PETS = Function("pet:{id}", db=1)


def flush_pets(server: RedisServer, inside: str, line: str) -> None:
    """Write two pets into database 1 and flush from there."""
    with connect(server, db=1) as client:
        client.hset("pet:1", "first", "A")
        client.hset("pet:2", "first", "B")
        if inside == "script":
            client.eval(f"redis.call('HSET', 'pet:3', 'first', 'C') redis.call('{line}')", 0)
        else:
            with client.pipeline(transaction=inside == "multi") as pipe:
                pipe.execute_command("HSET", "pet:3", "first", "C")
                pipe.execute_command(line)
                pipe.execute()


@pytest.mark.parametrize("line", ["FLUSHDB", "FLUSHALL"])
@pytest.mark.parametrize("inside", ["alone", "multi", "script"])
def test_no_start_deletes_what_a_flush_of_another_database_left(line: str, inside: str) -> None:
    """Neither a crash nor a promotion takes flushed keys for keys whose deletion was torn."""
    with pair(*ALWAYS) as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary, PETS, Function())
        fill(primary, 2)
        flush_pets(servers[0], inside, line)
        before = waiting(primary)
        assert [each.op for each in changes(primary)] == ["u"] * 5
        catch_up(primary, replica)
        servers[0].restart()
        assert waiting(primary) == before
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
        replica.replicaof("NO", "ONE")
        assert waiting(replica) == before


def test_a_flush_of_another_database_that_is_torn() -> None:
    """Wherever a crash cuts what the flush put into the AOF, no change is added for a key that it took."""
    server = module_server(*PLAIN_AOF)
    try:
        server.start()
        with connect(server) as client:
            deploy(client, PETS)
        with connect(server, db=1) as other:
            other.hset("pet:1", "first", "A")
            path = aof_files(server.directory)[-1]
            start = path.stat().st_size
            other.flushdb()
            other.hset("pet:2", "first", "B")
        server.kill9()
        text = path.read_bytes()
        cuts = [at for at, _ in aof_commands(text) if at >= start] + [len(text)]
        for cut in cuts:
            path.write_bytes(text[:cut])
            server.start()
            with connect(server) as client, connect(server, db=1) as other:
                last = {each.key: each.op for each in changes(client)}
                assert last["pet:1"] == "u", cut
                assert (last.get("pet:2") == "u") == bool(other.exists("pet:2")), cut
            server.kill9()
    finally:
        server.stop()


def test_what_is_torn_after_a_flush_is_healed() -> None:
    """The deletion of many keys right after a flush, cut after each command that it put into the AOF."""
    server = module_server(*PLAIN_AOF)
    try:
        server.start()
        with connect(server) as client:
            deploy(client)
            fill(client, 3)
            client.flushall()
            fill(client, 2)
            path = aof_files(server.directory)[-1]
            start = path.stat().st_size
            client.delete("person:0", "person:1")
        server.kill9()
        text = path.read_bytes()
        cuts = [at for at, _ in aof_commands(text) if at >= start] + [len(text)]
        assert len(cuts) > 3
        for cut in cuts:
            path.write_bytes(text[:cut])
            server.start()
            with connect(server) as client:
                last = {each.key: each.op for each in changes(client)}
                assert last.pop("person:2") == "u"
                for key, op in last.items():
                    assert (op == "d") == (not client.exists(key)), (cut, key)
            server.kill9()
    finally:
        server.stop()


@pytest.mark.parametrize("words", [("0", "1"), ("3", "0")])
@pytest.mark.parametrize("inside", ["alone", "multi", "script"])
def test_the_database_of_what_waits_is_not_swapped_away(
    client: redis.Redis, words: tuple[str, str], inside: str
) -> None:
    client.swapdb(0, 1)
    deploy(client)
    fill(client)
    waiting_before = changes(client)
    with pytest.raises(redis.ResponseError, match=r"SWAPDB: what gearsync has|discarded|[Uu]nknown"):
        if inside == "script":
            client.eval("return redis.call('SWAPDB', unpack(ARGV))", 0, *words)
        else:
            with client.pipeline(transaction=inside == "multi") as pipe:
                pipe.execute_command("SWAPDB", *words)
                pipe.execute()
    client.swapdb(1, 2)
    assert changes(client) == waiting_before and len(waiting_before) == 10


def test_a_reload_that_waits_is_no_flush() -> None:
    """From 7.2 on it is refused: it would be told from a flush by what passed the filter last."""
    with module_server() as server, connect(server) as client, connect(server) as other:
        deploy(client)
        fill(client)
        waiting_before = changes(client)
        client.execute_command("CLIENT", "PAUSE", 300, "ALL")
        with ThreadPoolExecutor(1) as pool:
            reloading = pool.submit(client.execute_command, "DEBUG", "RELOAD")
            time.sleep(0.1)
            other.ping()
            with contextlib.suppress(redis.ResponseError):
                reloading.result(30)
        assert changes(other) == waiting_before
        assert "were flushed" not in server.log_text() and "was flushed" not in server.log_text()
