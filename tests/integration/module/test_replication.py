"""A replica has all that its primary has, captures nothing itself, and takes over when it is promoted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    Change,
    Function,
    Read,
    acknowledge,
    changes,
    connect,
    decode,
    deploy,
    entries,
    lane_keys,
    module_server,
    status,
    wait_for,
)
from tests.integration.module.reading import blocked, deploy_reads
from tests.servers import RedisServer


@contextlib.contextmanager
def pair(*options: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, in sync."""
    with module_server(*options) as primary:
        with module_server(*options, "--replicaof", "127.0.0.1", str(primary.port)) as replica:
            with connect(replica) as client:
                wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the link")
            yield primary, replica


def catch_up(primary: redis.Redis, replica: redis.Redis) -> None:
    offset = primary.info("replication")["master_repl_offset"]
    wait_for(lambda: replica.info("replication")["slave_repl_offset"] >= offset, "the replica catches up")


def waiting(client: redis.Redis) -> dict[str, list[Change]]:
    """Return all changes by lane, read from the keyspace alone, so also of a replica."""
    return {lane: [decode(pairs) for _, pairs in entries(client, lane)] for lane in lane_keys(client)}


def test_a_replica_follows_and_refuses() -> None:
    with pair() as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary, lanes=2)
        for number in range(20):
            primary.hset(f"person:{number}", "first", number)
        primary.pexpire("person:0", 10)
        wait_for(lambda: not primary.exists("person:0"), "expiry")
        catch_up(primary, replica)
        assert waiting(replica) == waiting(primary)
        assert sum(len(each) for each in waiting(replica).values()) == 21
        assert status(replica)["role"] == "replica"
        assert [each["name"] for each in status(replica)["deployments"]] == ["people"]
        stream = lane_keys(primary)[0]
        refused: list[list[Any]] = [["ACK", stream, "1-1"], ["WAIT", 10], ["LANES", "people"]]
        refused += [["UNDEPLOY", "people"], ["RECAPTURE", "person:1"], ["EPOCH", 99], ["DEPLOY", "x", 1]]
        for command in refused:
            with pytest.raises(redis.ResponseError, match=r"(?i)replica|readonly"):
                replica.execute_command(f"GEARSYNC.{command[0]}", *command[1:])
        reply = replica.execute_command("GEARSYNC.HEARTBEAT", "people", "w", "{}")
        assert reply[2] == b"stop"
        acknowledge(primary)
        primary.execute_command("GEARSYNC.UNDEPLOY", "people")
        wait_for(lambda: status(primary)["deployments"] == [], "undeployed")
        catch_up(primary, replica)
        assert lane_keys(replica) == [] and status(replica)["deployments"] == []


def test_a_replica_that_takes_writes_captures_none_of_them() -> None:
    with pair() as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary)
        primary.hset("person:1", "first", "A")
        catch_up(primary, replica)
        # It knows the rules from now on.
        assert [each["name"] for each in status(replica)["deployments"]] == ["people"]
        replica.config_set("replica-read-only", "no")
        replica.hset("person:1", "first", "B")
        replica.delete("person:1")
        replica.hset("person:2", "first", "C")
        replica.pexpire("person:2", 25)
        wait_for(lambda: not replica.exists("person:2"), "expiry")
        primary.hset("person:3", "first", "D")
        catch_up(primary, replica)
        assert waiting(replica) == waiting(primary)
        assert [each.key for found in waiting(replica).values() for each in found] == ["person:1", "person:3"]


def test_promotion_captures_with_a_higher_epoch() -> None:
    with pair() as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary)
        primary.hset("person:1", "first", "A")
        before = status(primary)["epoch"]
        catch_up(primary, replica)
        servers[0].kill9()
        replica.replicaof("NO", "ONE")
        replica.hset("person:1", "first", "B")
        found = changes(replica)
        assert [each.image["first"] for each in found] == ["A", "B"]
        assert found[1].epoch == status(replica)["epoch"] == ((before >> 20) + 1) << 20
        # The old primary, restarted alone many times, still ranks lower.
        assert found[1].epoch > before + 1000
        assert acknowledge(replica) == 2 and replica.execute_command("GEARSYNC.WAIT", 0) == b"OK"


def test_a_replica_with_another_past_takes_its_primarys_registry() -> None:
    with module_server() as one, module_server() as two:
        with connect(one) as primary, connect(two) as replica:
            deploy(primary)
            deploy(replica, Function("pet:{id}"), name="stale")
            replica.hset("pet:1", "first", "lost")
            replica.replicaof("127.0.0.1", str(one.port))
            wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
            catch_up(primary, replica)
            assert [each["name"] for each in status(replica)["deployments"]] == ["people"]
            assert status(replica)["source"] == status(primary)["source"]
            replica.replicaof("NO", "ONE")
            replica.hset("pet:2", "first", "A")
            replica.hset("person:2", "first", "A")
            assert [each.key for found in waiting(replica).values() for each in found] == ["person:2"]


def test_back_and_forth() -> None:
    with pair(*ALWAYS) as servers, connect(servers[0]) as one, connect(servers[1]) as two:
        deploy(one)
        clients = [one, two]
        epochs = []
        for turn in range(4):
            primary, replica = clients[turn % 2], clients[(turn + 1) % 2]
            primary.hset(f"person:{turn}", "first", turn)
            epochs.append(changes(primary)[-1].epoch)
            catch_up(primary, replica)
            replica.replicaof("NO", "ONE")
            primary.replicaof("127.0.0.1", str(servers[(turn + 1) % 2].port))
            wait_for(lambda: primary.info("replication")["master_link_status"] == "up", "the link")  # noqa: B023
        assert [each.image["first"] for each in changes(one)] == ["0", "1", "2", "3"]
        assert epochs == sorted(set(epochs))


def test_writes_during_a_full_sync_are_in_both() -> None:
    with module_server() as one, module_server() as two:
        with connect(one) as primary, connect(two) as replica:
            deploy(primary, lanes=3)
            primary.execute_command("DEBUG", "POPULATE", 50000)
            replica.replicaof("127.0.0.1", str(one.port))
            for number in range(2000):
                primary.hset(f"person:{number % 97}", "first", number)
            wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link", 30)
            catch_up(primary, replica)
            assert waiting(replica) == waiting(primary)
            assert sum(len(each) for each in waiting(primary).values()) == 2000


def held_reader_of_replicas(server: RedisServer, *words: Any) -> Any:
    """Send a command by a client that also reads from replicas; return the reply, or the error's text."""
    with connect(server, single_connection_client=True, socket_timeout=10) as client:
        # Valkey 9 does not let go of such a client by itself, nor of any in a cluster.
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("READONLY")
        try:
            return client.execute_command(*words)
        except redis.RedisError as error:
            return str(error)


def test_all_who_are_held_are_told_when_their_primary_becomes_a_replica() -> None:
    commands = [
        ("GEARSYNC.WAIT", 0),
        ("GEARSYNC.WAIT", 60_000),
        ("HGET", "person:1", "first"),
        ("EXISTS", "order:1", "person:2"),
    ]
    with module_server() as other, module_server() as server, connect(server) as client:
        deploy_reads(client, Read(timeout=60_000), Read("order:{id}", timeout=60_000, failure="MISS"))
        client.hset("person:3", "first", "Ada")
        with ThreadPoolExecutor(len(commands)) as pool:
            told = [pool.submit(held_reader_of_replicas, server, *each) for each in commands]
            wait_for(lambda: blocked(client) == len(commands), "all are held")
            client.replicaof("127.0.0.1", other.port)
            answers = [each.result() for each in told]
        assert [each for each in answers if "replica" not in str(each)] == []
        wait_for(lambda: blocked(client) == 0, "nobody is held")
        assert status(client)["barriers"] == 0
