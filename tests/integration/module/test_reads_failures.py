"""Read-through, when there is no row to be had: failures, clients and workers that leave, no way to wait."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Read,
    connect,
    deploy,
    deployment_status,
    module_server,
    server_version,
    wait_for,
)
from tests.integration.module.reading import (
    ADA,
    Client,
    Start,
    Worker,
    blocked,
    counts,
    deploy_reads,
    deploy_reads_alone,
    until_waiting,
)
from tests.servers import RedisServer

# -- Failures -----------------------------------------------------------------------------------------------


def test_a_failure_is_the_clients_error_or_a_miss(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client, Read(), Read("order:{id}", failure="MISS"))
    readers = [
        start("HGET", "person:1", "first"),
        start("HGET", "order:1", "total"),
        start("EXISTS", "order:2"),
    ]
    until_waiting(client, 3)
    assert worker.fail(worker.take(), "the database is away\r\n+OK") == 3
    assert readers[0].result() == "READTHROUGH the database is away  +OK"
    assert (readers[1].result(), readers[2].result()) == (None, 0)
    assert counts(client)["failed"] == 3
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def test_what_a_worker_took_of_another_process_is_no_answer_there() -> None:
    """It was stopped with a row in hand, and Redis has restarted meanwhile."""
    with module_server() as server:
        taken = []
        for key in ("person:1", "person:2"):
            client, worker = connect(server), Worker(server)
            deploy_reads_alone(client)
            reader = Client(server, "HGET", key, "first")
            taken.append(worker.take())
            if len(taken) == 1:
                server.restart()
                assert "closed" in str(reader.result())
        old, new = taken
        assert worker.bring(old, {"person:1": {"first": "Joe"}}) == 0
        assert worker.bring(new, {"person:2": ADA}) == 1
        assert reader.result() == b"Ada"


def test_of_several_keys_one_failure_is_enough(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    reader = start("EXISTS", "person:1", "person:2", "person:3")
    taken = worker.take()
    worker.fail({"person:2": taken.pop("person:2")}, "no")
    assert reader.result() == "READTHROUGH no"
    assert worker.bring(taken, {"person:1": ADA}) == 1
    assert counts(client)["waiting"] == 0


@pytest.mark.parametrize("failure", ["ERROR", "MISS"])
def test_a_client_waits_no_longer_than_the_function_says(
    client: redis.Redis, worker: Worker, start: Start, failure: str
) -> None:
    deploy_reads(client, Read(timeout=100, failure=failure))
    client.delete("person:2")
    client.hset("person:2", "first", "x")
    client.delete("person:2")
    reasons = {}
    for key, reason in (("person:1", "no worker takes it"), ("person:2", "still waits to be in SQL")):
        reasons[key] = (start("HGET", key, "first"), reason)
    for reader, reason in reasons.values():
        found = reader.result()
        if failure == "ERROR":
            assert found.startswith("READTHROUGH the row of key person:") and reason in found
        else:
            assert found is None
    assert worker.take(1) == {}
    reader = start("HGET", "person:3", "first")
    taken = worker.take()
    found = reader.result()
    assert found is None if failure == "MISS" else "the database has not answered" in found
    # The row comes late, and is there for the next one.
    assert worker.bring(taken, {"person:3": ADA}) == 1
    assert client.hget("person:3", "first") == b"Ada"
    assert counts(client)["failed"] == 3


def test_what_a_worker_took_and_did_not_answer_goes_to_the_next(
    shared_server: RedisServer, client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    old = worker.take()
    worker.redis.close()
    second = Worker(shared_server)
    new = second.take()
    assert set(new) == set(old)
    assert worker.bring(old, {"person:1": {"first": "first"}}) == 0
    assert reader.waits
    assert second.bring(new, {"person:1": ADA}) == 1
    assert reader.result() == b"Ada"


@pytest.mark.parametrize("way", ["kill", "unblock", "unblock with an error", "close"])
def test_clients_that_leave(client: redis.Redis, worker: Worker, start: Start, way: str) -> None:
    deploy_reads(client)
    readers = [start("HGET", "person:1", "first") for _ in range(3)]
    gone = start("EXISTS", "person:1", "person:2")
    until_waiting(client, 5)
    if way == "kill":
        client.client_kill_filter(_id=str(gone.id))
    elif way == "close":
        assert gone.redis.connection is not None
        gone.redis.connection.disconnect()
    else:
        client.client_unblock(gone.id, error=way == "unblock with an error")
    until_waiting(client, 3)
    # Nobody wants the other one any more.
    assert worker.serve({"person:1": ADA}) == ["person:1"]
    assert [each.result() for each in readers] == [b"Ada"] * 3
    if way.startswith("unblock"):
        assert ("UNBLOCKED" if "error" in way else "READTHROUGH") in gone.result()
    assert counts(client)["waiting"] == 0


def test_a_worker_that_leaves_while_it_waits(
    shared_server: RedisServer, client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    first = start("GEARSYNC.MISSES", "people", 1, "t1", 10, 60_000)
    wait_for(lambda: blocked(client) == 1, "the worker waits")
    client.client_kill_filter(_id=str(first.id))
    wait_for(lambda: blocked(client) == 0, "the worker is gone")
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def _blocked(client: redis.Redis) -> int:
    return int(client.info("clients")["blocked_clients"])


# -- Where a client can't be held ---------------------------------------------------------------------------


def test_in_a_transaction_and_in_a_script(client: redis.Redis) -> None:
    deploy_reads(client, Read(), Read("order:{id}", failure="MISS"))
    client.hset("person:2", "first", "Joe")
    script = "return redis.call('HGET', KEYS[1], 'first')"
    for key, said in (("person:1", "can't be waited for inside MULTI or a script"), ("order:1", None)):
        with client.pipeline(transaction=True) as pipe:
            pipe.hget("person:2", "first")
            pipe.hget(key, "first")
            found = pipe.execute(raise_on_error=False)
        assert found[0] == b"Joe"
        if said is None:
            assert found[1] is None
            assert client.eval(script, 1, key) is None
        else:
            assert said in str(found[1])
            with pytest.raises(redis.ResponseError, match=said):
                client.eval(script, 1, key)
    assert client.eval(script, 1, "person:2") == b"Joe"
    assert counts(client)["waiting"] == 0


def test_another_database_has_other_keys(
    shared_server: RedisServer, client: redis.Redis, start: Start
) -> None:
    deploy_reads(client, Read(db=3))
    assert client.hget("person:1", "first") is None
    worker = Worker(shared_server)
    reader = start("HGET", "person:1", "first", db=3)
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"
    assert client.hget("person:1", "first") is None
    with connect(shared_server, db=3) as third:
        assert third.hget("person:1", "first") == b"Ada"


def test_a_replica_reads_what_it_has() -> None:
    with module_server() as primary:
        options = ("--replicaof", "127.0.0.1", str(primary.port))
        with module_server(*options) as replica, connect(primary) as client, connect(replica) as reading:
            wait_for(lambda: reading.info("replication")["master_link_status"] == "up", "the link")
            deploy_reads(client)
            worker = Worker(primary)
            wait_for(lambda: reading.execute_command("GEARSYNC.DEPLOYMENTS"), "the deployment")
            assert reading.hget("person:1", "first") is None
            reader = Client(primary, "HGET", "person:1", "first")
            worker.serve({"person:1": ADA}, ttl=60_000)
            assert reader.result() == b"Ada"
            wait_for(lambda: reading.hget("person:1", "first") == b"Ada", "the loaded hash")
            assert reading.pttl("person:1") > 0
            with pytest.raises(redis.ResponseError, match="replica"):
                Worker(replica).take(1)


# -- Deployments --------------------------------------------------------------------------------------------


def test_a_new_version_goes_on_with_the_clients(
    shared_server: RedisServer, client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    readers = [start("HGET", f"person:{number}", "first") for number in range(3)]
    until_waiting(client, 3)
    taken = worker.take(most=2)
    waiting = start("GEARSYNC.MISSES", "people", 1, "t2", 10, 60_000)
    assert "no deployment of that name with that target" in waiting.result()
    deploy_reads(client, Read("other:{id}"), Read(), version=2)
    with pytest.raises(redis.ResponseError, match="another version"):
        worker.take(1)
    assert worker.bring(taken, {"person:0": {"first": "stale"}}) == 0
    second = Worker(shared_server, version=2)
    found = second.redis.execute_command(*second.words, 10, 1000)
    assert [index for _, index, _ in found] == [1, 1, 1]
    second.bring({key.decode(): token for token, _, key in found}, {f"person:{n}": ADA for n in range(3)})
    assert [each.result() for each in readers] == [b"Ada"] * 3


def test_undeploy_lets_clients_go(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    readers = [start("HGET", "person:1", "first"), start("EXISTS", "person:1", "person:2")]
    until_waiting(client, 3)
    worker.take()
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    assert [each.result() for each in readers] == [None, 0]
    assert client.hget("person:1", "first") is None


def test_status_tells_of_reads_only_where_there_are_some(client: redis.Redis) -> None:
    deploy(client, name="writers")
    deploy_reads_alone(client)
    assert "reads" not in deployment_status(client, "writers")
    assert set(counts(client)) == {"misses", "loaded", "missing", "waiting", "failed"}


def test_nothing_is_left_of_clients_and_workers_that_left() -> None:
    """The server does not unload a module that still holds a client."""
    with module_server() as server, connect(server) as client:
        deploy_reads(client, Read(timeout=50))
        late = Client(server, "HGET", "person:1", "first")
        assert "no worker takes it" in late.result()
        assert Worker(server).take(20) == {}
        deploy_reads(client, version=2)
        gone = [
            Client(server, "HGET", "person:1", "first"),
            Client(server, "GEARSYNC.MISSES", "people", 2, "t1", 10, 60_000),
        ]
        for each in gone:
            wait_for(functools.partial(_blocked_or_over, client, each), "it waits")
            client.client_kill_filter(_id=str(each.id))
        wait_for(lambda: blocked(client) == 0, "they are gone")
        wait_for(lambda: _unload(client), "the module goes")


def _blocked_or_over(client: redis.Redis, each: Client) -> bool:
    return not each.waits or blocked(client) > 0


def test_the_module_can_be_unloaded_while_a_worker_waits() -> None:
    with module_server() as server, connect(server) as client:
        deploy_reads(client)
        waiting = Client(server, "GEARSYNC.MISSES", "people", 1, "t1", 10, 60_000)
        wait_for(lambda: blocked(client) == 1, "the worker waits")
        wait_for(lambda: _unload(client), "the module goes")
        assert waiting.result() == []


def _unload(client: redis.Redis) -> bool:
    try:
        return bool(client.module_unload("gearsync"))
    except redis.ResponseError:
        return False


# -- The commands of the worker -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["MISSES", "people", 1, "t1", 10], "wrong number"),
        (["MISSES", "people", 1, "t1", 0, 10], "use GEARSYNC.MISSES"),
        (["MISSES", "people", 1, "t1", 10, 0], "use GEARSYNC.MISSES"),
        (["MISSES", "people", 2, "t1", 10, 10], "another version"),
        (["MISSES", "nobody", 1, "t1", 10, 10], "no deployment"),
        (["LOADED", "people", "t1"], "wrong number"),
        (["LOADED", "people", "t2", 0], "no deployment"),
        (["LOADED", "people", "t1", 1], "use GEARSYNC.LOADED"),
        (["LOADED", "people", "t1", 1, 1, 0, 1, "a"], "use GEARSYNC.LOADED"),
        (["LOADED", "people", "t1", 1, 1, -1, -1], "use GEARSYNC.LOADED"),
        (["LOADED", "people", "t1", 1, 1, 0, -2], "use GEARSYNC.LOADED"),
        (["LOADED", "people", "t1", 0, 1, 0, -1], "use GEARSYNC.LOADED"),
        (["UNREAD", "people", "t1"], "wrong number"),
    ],
)
def test_what_the_commands_do_not_take(client: redis.Redis, words: list[Any], said: str) -> None:
    deploy_reads(client)
    with pytest.raises(redis.ResponseError, match=said):
        client.execute_command(f"GEARSYNC.{words[0]}", *words[1:])


def test_the_command_before_a_clients_own_takes_reads_alone(client: redis.Redis) -> None:
    deploy_reads(client)
    name = "GEARSYNC.READ" if server_version() >= (7, 0) else "GEARSYNC.READ.AUTH"
    for words in (
        ["HSET", "person:1", "first", "x"],
        ["FLUSHALL", "SYNC"],
        ["HGET", "person:1"],
        [name, "X"],
    ):
        with pytest.raises(redis.ResponseError, match="that read hashes"):
            client.execute_command(name, *words)


def test_without_memory_the_row_is_not_set(client: redis.Redis, worker: Worker, start: Start) -> None:
    if server_version() < (7, 0):
        pytest.skip("this server does not look at memory for a module")
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    client.config_set("maxmemory", 1)
    try:
        assert worker.bring(taken, {"person:1": ADA}) == 0
        assert reader.result() == "READTHROUGH Redis has no memory for the row"
    finally:
        client.config_set("maxmemory", 0)
