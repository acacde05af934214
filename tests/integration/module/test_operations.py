"""The field ``#`` of functions with operations: in Redis, in the lane, in the AOF and on a replica."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from gears.applying.acknowledgments import stream_of
from tests.integration.module.driving import (
    ALWAYS,
    PLAIN_AOF,
    Function,
    aof_commands,
    aof_files,
    changes,
    connect,
    deploy,
    deploy_arguments,
    entries,
    lanes,
    module_server,
    server_version,
    status,
    wait_for,
)
from tests.servers import RedisServer

OPERATIONS = Function(operations=True)
OTHER = Function(target="t2")
T = "6ce0c902"
STREAM = "{person:1}" + T
Seen = list[tuple[str, dict[str, str], str]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with module_server() as server:
        with connect(server) as client:
            if not status(client)["jobs"]:
                pytest.skip("operations need a server with post-notification jobs")
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server whose target t1 has operations; t2 has the same keys, and none."""
    with connect(server) as client:
        client.flushall()
        deploy(client, OPERATIONS, OTHER, targets=["t1", "t2"])
        yield client
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")


def take(client: redis.Redis, target: str = "t1") -> Seen:
    """Return what waits for a target, and acknowledge it."""
    found = [(each.op, each.image, each.ticket) for each in changes(client, target=target)]
    for lane in lanes(client, target=target):
        waiting = entries(client, lane)
        if waiting:
            client.execute_command("GEARSYNC.ACK", lane, waiting[-1][0])
    return found


def told(client: redis.Redis, stream: str = STREAM) -> list[dict[bytes, bytes]]:
    found: Any = client.xrange(stream)
    return [fields for _, fields in found]


def written(client: redis.Redis, *words: Any, key: str = "person:1") -> Any:
    """HSET with ``first`` = A and an operation on a key that has ``last`` = L and whose change is taken."""
    client.hset(key, "last", "L")
    take(client), take(client, "t2")
    return client.execute_command("HSET", key, "first", "A", "#", *words)


DONE = [{b"status": b"done"}]
BOTH = {"first": "A", "last": "L"}
CASES: dict[str, tuple[dict[str, str], Seen, Seen, list[dict[bytes, bytes]]]] = {
    # what the key holds then, the changes for the target with operations, for the other one, the stream
    "=": (BOTH, [("u", BOTH, "")], [("u", BOTH, "")], []),
    "=" + T: (BOTH, [("u", BOTH, T)], [("u", BOTH, "")], []),
    "+": (BOTH, [], [("u", BOTH, "")], []),
    "+" + T: (BOTH, [], [("u", BOTH, "")], DONE),
    "-": ({}, [], [("d", {}, "")], []),
    "-" + T: ({}, [], [("d", {}, "")], DONE),
    "~": ({}, [("t", {}, "")], [("d", {}, "")], []),
    "~" + T: ({}, [("t", {}, T)], [("d", {}, "")], []),
    "!" + T: (BOTH, [("q", BOTH, "!" + T)], [("u", BOTH, "")], []),
    "": (BOTH, [("q", BOTH, "")], [("u", BOTH, "")], []),
}


@pytest.mark.parametrize("operation", CASES)
def test_operation(client: redis.Redis, operation: str) -> None:
    assert written(client, operation) == 2
    held, for_operations, for_others, stream = CASES[operation]
    assert client.hgetall("person:1") == {k.encode(): v.encode() for k, v in held.items()}
    assert take(client) == for_operations
    assert take(client, "t2") == for_others
    assert told(client) == stream
    assert not stream or 0 < client.ttl(STREAM) <= 3600
    client.hset("person:1", "age", "1")
    assert take(client) == [("u", {**held, "age": "1"}, "")]


def test_bytes_after_the_operation(client: redis.Redis) -> None:
    ticket = b"\xff:\n\0{}" + b"x" * 300
    client.hset("person:1", mapping={"first": "A", "#": b"=" + ticket})
    assert take(client) == [("u", {"first": "A"}, ticket.decode("latin-1"))]
    client.hset("person:1", mapping={"first": "A", "#": b"+" + ticket})
    assert client.xlen(b"{person:1}" + ticket) == 1


@pytest.mark.parametrize(
    ("key", "stream"),
    [
        ("person:{a}:1", "{a}{person:{a}:1}"),
        ("person:{}x", "{3890}{person:{}x}"),
        ("person:a}b", "{42984}{person:a}b}"),
        ("person:a{b", "{person:a{b}"),
    ],
)
def test_the_stream_is_in_the_slot_of_its_key(server: RedisServer, key: str, stream: str) -> None:
    with connect(server) as client:
        deploy(client, OPERATIONS._replace(template="person:{id*}"))
        client.hset(key, mapping={"first": "A", "#": "+" + T})
        assert client.xlen(stream + T) == 1
        assert stream_of(key.encode(), T.encode()) == (stream + T).encode()
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")


ALONE: dict[str, tuple[bool, Seen, str]] = {
    # whether the key is left, the changes, and what functions without operations see
    "= there": (True, [("u", {"last": "L"}, T)], "u"),
    "+ there": (True, [], "u"),
    "- there": (False, [], "d"),
    "~ there": (False, [("t", {}, T)], "d"),
    "= new": (False, [], ""),
    "+ new": (False, [], ""),
    "- new": (False, [], "d"),
    "~ new": (False, [("t", {}, T)], "d"),
}


@pytest.mark.parametrize("case", ALONE)
def test_operation_alone(client: redis.Redis, case: str) -> None:
    operation, kind = case.split()
    if kind == "there":
        client.hset("person:1", "last", "L")
        take(client), take(client, "t2")
    client.hset("person:1", "#", operation + T)
    left, expected, for_others = ALONE[case]
    assert "".join(op for op, _, _ in take(client, "t2")) == for_others
    assert bool(client.exists("person:1")) == left
    found = take(client)
    assert found == expected
    assert told(client) == ([] if found else DONE)


def in_multi(*commands: str) -> Callable[[redis.Redis], None]:
    def run(client: redis.Redis) -> None:
        with client.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command.split())
            pipe.execute()

    return run


UNITS: dict[str, tuple[Callable[[redis.Redis], Any], dict[str, str], Seen]] = {
    "a plain write before +": (
        in_multi("HSET person:1 first A", "HSET person:1 age 2 # +"),
        {"first": "A", "age": "2"},
        [("u", {"first": "A", "age": "2"}, "")],
    ),
    "a plain write after +, another key between": (
        in_multi("HSET person:1 first A # +", "HSET person:2 age 1", "HSET person:1 age 2"),
        {"first": "A", "age": "2"},
        [("u", {"first": "A", "age": "2"}, ""), ("u", {"age": "1"}, "")],
    ),
    "a plain write before -": (
        in_multi("HSET person:1 first A", "HSET person:2 age 1", "HSET person:1 # -"),
        {},
        [("u", {"first": "A"}, ""), ("u", {"age": "1"}, "")],
    ),
    "script": (
        lambda client: client.eval("redis.call('HSET', KEYS[1], 'first', 'A', '#', '~')", 1, "person:1"),
        {},
        [("t", {}, "")],
    ),
    "HSETNX": (lambda client: client.hsetnx("person:1", "#", "-"), {}, []),
    "a copy of a hash that has the field": (
        in_multi("HSET other # - first A", "COPY other person:1"),
        {"first": "A"},
        [("n", {"first": "A"}, "")],
    ),
}


@pytest.mark.parametrize("unit", UNITS)
def test_unit(client: redis.Redis, unit: str) -> None:
    run, held, expected = UNITS[unit]
    run(client)
    assert client.hgetall("person:1") == {k.encode(): v.encode() for k, v in held.items()}
    assert take(client) == expected


def test_a_unit_of_many_keys(client: redis.Redis) -> None:
    """So many that their events are told apart by a dictionary; some keys are written again, one expires."""
    count = 300
    with client.pipeline(transaction=True) as pipe:
        for number in range(count):
            pipe.hset(f"person:{number}", mapping={"age": number, "#": "+" if number % 2 else "="})
        for number in (3, 4, 5, 3):
            pipe.hset(f"person:{number}", mapping={"first": "A"})
        pipe.hset("person:6", "#", "-")
        pipe.expire("person:8", -1)
        pipe.hset("person:9", mapping={"last": "L", "#": "~"})
        pipe.execute()
    assert client.exists("person:6", "person:8", "person:9") == 0
    held = {n: {"age": str(n), **({"first": "A"} if n in (3, 4, 5) else {})} for n in range(count)}
    expected = [(n, "u", held[n]) for n in range(count) if n in (3, 5) or (n % 2 == 0 and n not in (6, 8))]
    found = [
        (int(each.key[7:]), each.op, each.image)
        for each in changes(client)
        if int(each.key[7:]) not in (6, 8, 9)
    ]
    assert found == expected
    assert [each.op for each in changes(client) if each.key == "person:9"] == ["t"]
    assert all(client.hget(f"person:{number}", "#") is None for number in range(0, count, 50))
    take(client), take(client, "t2")


def test_deleted_and_written_with_plus_in_one_unit(client: redis.Redis) -> None:
    client.hset("person:1", "last", "L")
    take(client)
    in_multi("DEL person:1", "HSET person:1 first A # +")(client)
    assert take(client) == [("d", {}, "")]
    assert client.hgetall("person:1") == {b"first": b"A"}


def test_without_the_option_it_is_a_field_as_any_other(server: RedisServer) -> None:
    with connect(server) as client:
        deploy(client, Function(fields=None))
        client.hset("person:1", mapping={"#": "-", "first": "A"})
        assert client.hgetall("person:1") == {b"#": b"-", b"first": b"A"}
        assert [(each.op, each.image) for each in changes(client)] == [("u", {"#": "-", "first": "A"})]
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        client.delete("person:1")


def test_the_whole_hash_is_captured_without_it(server: RedisServer) -> None:
    with connect(server) as client:
        deploy(client, OPERATIONS._replace(fields=None))
        client.hset("person:1", mapping={"#": "=", "any": "A"})
        assert [(each.op, each.image) for each in changes(client)] == [("u", {"any": "A"})]
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        client.delete("person:1")


@pytest.mark.parametrize("operation", "=+-~")
def test_one_unit_in_the_aof(server: RedisServer, operation: str) -> None:
    """Cut after each command of the write, the file has all of it or nothing."""
    with module_server(*PLAIN_AOF, "--aof-load-truncated", "yes") as server:
        with connect(server) as client:
            deploy(client, OPERATIONS)
            client.hset("person:1", "last", "L")
            before = changes(client)
            path = aof_files(server.directory)[-1]
            size = path.stat().st_size
            client.hset("person:1", mapping={"first": "A", "#": operation + T})
            after = client.hgetall("person:1"), told(client), changes(client)[len(before) :]
        server.kill9()
        text = path.read_bytes()
        cuts = [at for at, _ in aof_commands(text) if at >= size] + [len(text)]
        assert len(cuts) > 3
        for cut in cuts:
            path.write_bytes(text[:cut])
            server.start()
            with connect(server) as client:
                held = client.hgetall("person:1"), told(client), changes(client)[len(before) :]
            whole = cut == len(text)
            assert held == (after if whole else ({b"last": b"L"}, [], [])), cut
            server.kill9()


def write_until_killed(server: RedisServer, seed: int) -> None:
    chance = random.Random(seed)
    with connect(server) as client:
        while True:
            try:
                pipe = client.pipeline(transaction=chance.random() < 0.3)
                for _ in range(chance.randrange(1, 30)):
                    operation = chance.choice(["=", "+", "-", "~", "=t", "~t"])
                    mapping = {"first": "v" * chance.randrange(1, 100)}
                    if chance.random() < 0.8:
                        mapping["#"] = operation
                    pipe.hset(f"person:{chance.randrange(100)}", mapping=mapping)
                pipe.execute(raise_on_error=False)
            except redis.ConnectionError:
                return


def check_no_field(server: RedisServer) -> None:
    with connect(server) as client:
        keys = list(client.scan_iter("person:*", count=1000))
        assert keys
        assert [key for key in keys if client.hexists(key, "#")] == []


def test_kill9_and_replica(server: RedisServer) -> None:
    """No hash ever holds the field, neither here, nor on a replica, nor after kill -9."""
    with (
        module_server(*ALWAYS) as server,
        module_server("--replicaof", "127.0.0.1", str(server.port)) as other,
    ):
        with connect(server) as client, connect(other) as replica:
            deploy(client, OPERATIONS)
            wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
        writers = [threading.Thread(target=write_until_killed, args=(server, seed)) for seed in range(2)]
        for writer in writers:
            writer.start()
        # The moment of the kill is meant to be any.
        time.sleep(random.uniform(0.3, 0.8))
        server.kill9()
        for writer in writers:
            writer.join()
        check_no_field(other)
        server.start()
        check_no_field(server)


def test_the_epoch_is_read_beside_a_ticket(server: RedisServer) -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client, OPERATIONS)
            client.execute_command("GEARSYNC.EPOCH", 77)
            client.hset("person:1", mapping={"first": "A", "#": "=" + T * 9})
            client.hset("gearsync:{0}:registry", "meta", f"{status(client)['source']} 5")
        server.kill9()
        server.start()
        with connect(server) as client:
            assert status(client)["epoch"] == 78


def test_a_deployment_keeps_its_operations_over_a_restart(server: RedisServer) -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client, OPERATIONS)
        server.kill9()
        server.start()
        with connect(server) as client:
            client.hset("person:1", mapping={"first": "A", "#": "-"})
            assert not client.exists("person:1") and changes(client) == []


def test_a_server_without_jobs_refuses_them() -> None:
    if server_version() >= (7, 2):
        pytest.skip("this server has post-notification jobs")
    with module_server() as server, connect(server) as client:
        with pytest.raises(redis.ResponseError, match="operations need Redis 7"):
            deploy(client, OPERATIONS)


def test_another_database_is_refused(server: RedisServer) -> None:
    with connect(server) as client, pytest.raises(redis.ResponseError, match="database 0 alone"):
        client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(functions=[OPERATIONS._replace(db=1)]))
