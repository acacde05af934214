"""GEARSYNC.PUT brings rows to Redis: hashes that are no changes, and nothing older over something newer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import pytest
import redis

from tests.cluster import Cluster
from tests.integration.module.driving import (
    PLAIN_AOF,
    Function,
    acknowledge,
    aof_commands,
    aof_files,
    changes,
    connect,
    deploy,
    entries,
    lanes,
    module_server,
    server_version,
    wait_for,
)

Rows = Mapping[str, Optional[Mapping[str, Any]]]


def arguments(
    rows: Rows, mode: str = "REPLACE", ttl: int = 0, db: int = 0, name: str = "people"
) -> list[Any]:
    """Return the words of one GEARSYNC.PUT; no fields: no row."""
    found: list[Any] = ["GEARSYNC.PUT", name, db, mode, ttl, len(rows)]
    for key, fields in rows.items():
        found += [key, -1] if fields is None else [key, len(fields)]
        found += [word for pair in (fields or {}).items() for word in pair]
    return found


def put(client: redis.Redis, rows: Rows, mode: str = "REPLACE", **more: Any) -> int:
    return int(client.execute_command(*arguments(rows, mode, **more)))


def test_no_row_breaks_the_watch_of_who_read_one_before(client: redis.Redis) -> None:
    """A worker that was stopped in between would bring a row that is gone."""
    deploy(client)
    with client.pipeline() as stopped:
        stopped.watch("person:1")
        assert put(client, {"person:1": None}) == 0
        stopped.multi()
        stopped.execute_command(*arguments({"person:1": {"first": "Ada"}}))
        with pytest.raises(redis.WatchError):
            stopped.execute()
    assert not client.exists("person:1")


def test_a_deletion_of_the_row_alone_breaks_the_watch_of_who_read_it_before(client: redis.Redis) -> None:
    """As gearsync verify --repair asks for it: the key is not there, so that no event tells."""
    deploy(client)
    with client.pipeline() as stopped:
        stopped.watch("person:1")
        assert client.execute_command("GEARSYNC.RECAPTURE", "person:1")
        acknowledge(client)
        stopped.multi()
        stopped.execute_command(*arguments({"person:1": {"first": "Ada"}}))
        with pytest.raises(redis.WatchError):
            stopped.execute()
    assert not client.exists("person:1")


def test_hashes_are_set_replaced_and_deleted_and_nothing_is_captured(client: redis.Redis) -> None:
    deploy(client)
    deploy(client, name="others")
    rows: Rows = {"person:1": {"first": "Ada", "age": 36}, "person:2": {"first": "Joe"}, "person:3": {}}
    assert put(client, rows, ttl=60_000) == 2
    assert client.hgetall("person:1") == {b"first": b"Ada", b"age": b"36"}
    assert 0 < client.pttl("person:1") <= 60_000
    assert not client.exists("person:3")
    assert put(client, {"person:1": {"age": 37, "last": "L"}, "person:2": None, "person:9": None}) == 2
    assert client.hgetall("person:1") == {b"age": b"37", b"last": b"L"}
    assert client.pttl("person:1") == -1
    assert not client.exists("person:2")
    assert changes(client) == changes(client, "others") == []


def test_absent_leaves_what_is_there(client: redis.Redis) -> None:
    deploy(client)
    put(client, {"person:1": {"first": "old"}})
    assert put(client, {"person:1": {"first": "new"}, "person:2": {"first": "new"}}, "ABSENT") == 1
    assert client.hget("person:1", "first") == b"old"
    assert put(client, {"person:1": None}, "ABSENT") == 0
    client.set("person:4", "text")
    acknowledge(client)
    assert put(client, {"person:4": {"first": "x"}}, "REPLACE") == 0
    assert client.get("person:4") == b"text"


@pytest.mark.parametrize("lane_count", [1, 8])
@pytest.mark.parametrize("mode", ["ABSENT", "REPLACE"])
def test_keys_of_which_a_change_waits_are_left_alone(client: redis.Redis, mode: str, lane_count: int) -> None:
    deploy(client, lanes=lane_count)
    put(client, {})
    client.hset("person:1", "first", "newer")
    client.delete("person:1")
    client.hset("person:2", "first", "newer")
    rows: Rows = {f"person:{number}": {"first": "older"} for number in range(1, 40)}
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command(*arguments(rows, mode))
        pipe.execute_command("GEARSYNC.WAITING", 0, *rows)
        assert pipe.execute() == [37, [b"person:1", b"person:2"]]
    assert not client.exists("person:1")
    assert client.hget("person:2", "first") == b"newer"
    acknowledge(client)
    assert client.execute_command("GEARSYNC.WAITING", 0, *rows) == []
    assert put(client, {"person:1": {"first": "older"}}, mode) == 1


def test_what_waited_before_anybody_asked_is_not_told_apart() -> None:
    with module_server() as server, connect(server) as client:
        deploy(client)
        client.hset("person:1", "first", "newer")
        assert put(client, {"person:1": {"first": "SQL"}, "person:2": {"first": "SQL"}}) == 0
        acknowledge(client)
        assert put(client, {"person:1": {"first": "SQL"}, "person:2": {"first": "SQL"}}) == 2


def test_within_one_unit_a_write_counts_as_waiting(client: redis.Redis) -> None:
    deploy(client)
    put(client, {})
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("person:1", "first", "newer")
        pipe.execute_command(*arguments({"person:1": {"first": "older"}}))
        assert pipe.execute() == [1, 0]
    assert client.hget("person:1", "first") == b"newer"
    assert [each.image for each in changes(client)] == [{"first": "newer"}]


def test_a_key_whose_time_is_over_expires_first(client: redis.Redis) -> None:
    deploy(client)
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        put(client, {"person:1": {"first": "SQL"}}, ttl=1)
        begin = client.time()
        wait_for(lambda: client.time() > (begin[0], begin[1] + 5000), "the time is over")
        assert put(client, {"person:1": {"first": "SQL"}}, "ABSENT") == 0
        assert [each.op for each in changes(client)] == ["x"]
    finally:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def test_without_memory_nothing_is_set_and_deleting_goes_on(client: redis.Redis) -> None:
    deploy(client)
    put(client, {"person:1": {"first": "Ada", "last": "L"}, "person:2": {"first": "Joe"}})
    client.config_set("maxmemory", 1)
    try:
        if server_version() >= (7, 0):
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                put(client, {"person:1": {"first": "Eve"}, "person:2": None})
            assert client.hgetall("person:1") == {b"first": b"Ada", b"last": b"L"}
        else:
            put(client, {"person:2": None})
    finally:
        client.config_set("maxmemory", 0)
    assert not client.exists("person:2")


def test_other_databases(client: redis.Redis, shared_server: Any) -> None:
    deploy(client, Function(db=3))
    assert put(client, {"person:1": {"first": "Ada"}}, db=3) == 1
    with connect(shared_server, db=3) as third:
        assert third.hget("person:1", "first") == b"Ada"
    assert client.dbsize() == len(list(client.scan_iter("gearsync:*")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["people", 0, "ABSENT", 0], "wrong number"),
        (["nobody", 0, "ABSENT", 0, 0], "no active deployment"),
        (["people", 0, "SOME", 0, 0], "use GEARSYNC.PUT"),
        (["people", 0, "ABSENT", -1, 0], "use GEARSYNC.PUT"),
        (["people", 0, "ABSENT", 0, 2, "person:1", -1], "use GEARSYNC.PUT"),
        (["people", 0, "ABSENT", 0, 1, "person:1", 1, "first"], "use GEARSYNC.PUT"),
        (["people", 0, "ABSENT", 0, 1, "person:1", -2], "use GEARSYNC.PUT"),
        (["people", 0, "ABSENT", 0, 1, "person:1", -1, "more"], "use GEARSYNC.PUT"),
        (["people", 99, "ABSENT", 0, 0], "no database"),
    ],
)
def test_what_it_does_not_take(client: redis.Redis, words: list[Any], said: str) -> None:
    deploy(client)
    with pytest.raises(redis.ResponseError, match=said):
        client.execute_command("GEARSYNC.PUT", *words)


def test_the_aof_has_it_as_one_unit_and_a_replica_too() -> None:
    with module_server(*PLAIN_AOF) as primary:
        options = ("--replicaof", "127.0.0.1", str(primary.port))
        with module_server(*options) as replica, connect(primary) as client, connect(replica) as reader:
            wait_for(lambda: reader.info("replication")["master_link_status"] == "up", "the link")
            deploy(client)
            put(client, {"person:1": {"first": "Ada", "last": "L"}, "person:2": {"first": "Joe"}}, ttl=60_000)
            put(client, {"person:1": {"first": "Eve"}, "person:2": None})
            wait_for(lambda: reader.hgetall("person:1") == {b"first": b"Eve"}, "the replica")
            assert not reader.exists("person:2")
            with pytest.raises(redis.ResponseError, match="replica"):
                put(reader, {"person:1": None})
        words = [
            words for path in aof_files(primary.directory) for _, words in aof_commands(path.read_bytes())
        ]
        names = [each[0].upper() for each in words]
        assert names[-6:] == ["MULTI", "HSET", "HDEL", "PERSIST", "DEL", "EXEC"]


def test_a_cluster_takes_keys_of_its_own_slots_alone() -> None:
    with Cluster(module_server, primaries=2) as cluster:
        for client in cluster.clients:
            deploy(client)
        rows: Rows = {f"person:{number}": {"first": number} for number in range(20)}
        changed = [put(client, rows) for client in cluster.clients]
        assert sum(changed) == 20
        assert all(changed)
        with cluster.client() as client:
            assert [client.hget(f"person:{number}", "first") for number in range(20)] == [
                str(number).encode() for number in range(20)
            ]
        waiting = [len(entries(client, lane)) for client in cluster.clients for lane in lanes(client)]
        assert waiting == [0, 0]
