"""What users of rgsync do with the field ``#``, on both hosts and each kind of database."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gears.applying.acknowledgments import stream_of
from tests.cluster import Cluster
from tests.hosts import HOSTS
from tests.integration.deploying import eventually, gearsync, redis_with_module, rows
from tests.integration.module.driving import PLAIN_AOF, aof_commands, aof_files
from tests.integration.system import System
from tests.redisgears import ABSENT, RedisGears, home
from tests.servers import run_sql

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")
WriteBehind(
    keys="person:{id}",
    table="persons",
    columns={"first_name": "first", "last_name": "last", "age": "age"},
    target=Target("env:FIRST_DB_URL", name="first"),
    operations=True,
)
WriteBehind(
    name="guests",
    keys="guest:{id}",
    table="persons",
    columns={"first_name": "first", "last_name": "last", "age": "age"},
    target=Target("env:FIRST_DB_URL", name="first"),
)
"""
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, first VARCHAR(20), last VARCHAR(20), age INTEGER)"
ADA: dict[Any, Any] = {"first_name": "Ada", "last_name": "Lovelace", "age": "36"}
ROW = ("Ada", "Lovelace", 36)
WAIT_MS = 30_000


class World:
    """A server of one host and a database, which the tests share: each has a key of its own."""

    def __init__(self, system: System, client: redis.Redis, url: str) -> None:
        self.system = system
        self.client = client
        self.url = url
        self._numbers = itertools.count(1)

    def new_key(self) -> tuple[str, int]:
        number = next(self._numbers)
        return f"person:{number}", number

    def row(self, number: int) -> tuple[Any, ...] | None:
        found = rows(self.url, f"SELECT first, last, age FROM persons WHERE id = {number}")
        return found[0] if found else None

    def told(self, key: str, ticket: str) -> dict[str, str]:
        """Wait for an acknowledgment, as a client does."""
        stream = f"{{{key}}}{ticket}"
        reply: Any = self.client.xread({stream: "0-0"}, block=WAIT_MS)
        assert reply, f"nothing in {stream}\n{self.system.server.log_text()[-3000:]}"
        entries = reply[0][1]
        assert len(entries) == 1
        assert 0 < self.client.ttl(stream) <= 3600
        return {name.decode(): value.decode() for name, value in entries[0][1].items()}

    def write(self, key: str, operation: str, **fields: str) -> None:
        mapping: dict[Any, Any] = {**fields, "#": operation}
        self.client.hset(key, mapping=mapping)

    def fields(self, key: str) -> dict[str, str]:
        held: Any = self.client.hgetall(key)
        return {name.decode(): value.decode() for name, value in held.items()}


@contextlib.contextmanager
def deployed(folder: Path, host: str, url: str, *options: str, **variables: str) -> Iterator[World]:
    """A world, or a skip where the host can't have operations; ``variables`` are those of its server."""
    run_sql(url, PERSONS)
    variables["FIRST_DB_URL"] = url
    system = System(folder, FUNCTIONS, variables, away=True, options=options, host=host)
    with contextlib.ExitStack() as stack:
        with system.environment():
            stack.enter_context(system.server)
            done = gearsync("deploy", system.functions, "--redis", system.server.url)
            if "operations need Redis 7.2" in done.stderr + done.stdout:
                pytest.skip("operations need a server with post-notification jobs")
            assert done.returncode == 0, done.stderr + system.server.log_text()
        system.client = stack.enter_context(system.server.client(socket_timeout=60))
        yield World(system, system.client, url)


@pytest.fixture(
    scope="module", params=[f"{host}-{db}" for host in HOSTS for db in ("postgres", "mariadb", "sqlite")]
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    host, kind = request.param.split("-")
    if host == "redisgears" and home() is None:
        pytest.skip(ABSENT)
    folder = tmp_path_factory.mktemp("world")
    url = f"sqlite:///{folder / 'target.db'}"
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    if database is not None:
        url = database.create_database()
    try:
        with deployed(folder, host, url, "--appendonly", "yes") as world:
            yield world
    finally:
        if database is not None:
            database.drop_database(url)


def test_a_hash_becomes_a_row_and_goes_with_its_key(world: World) -> None:
    key, number = world.new_key()
    world.client.hset(key, mapping=ADA)
    eventually(lambda: world.row(number) == ROW)
    world.client.delete(key)
    eventually(lambda: world.row(number) is None)


def test_acknowledged_writes(world: World) -> None:
    """With the entry the row is there, and with that of a deletion it is gone."""
    key, number = world.new_key()
    world.write(key, "=w1", **ADA)
    assert world.told(key, "w1") == {"status": "done"}
    assert world.row(number) == ROW
    assert world.fields(key) == ADA
    world.write(key, "~w2")
    assert world.told(key, "w2") == {"status": "done"}
    assert world.row(number) is None
    assert not world.client.exists(key)


def test_each_operation(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "+", **ADA)
    world.system.wait()
    assert (world.fields(key), world.row(number)) == (ADA, None)
    world.write(key, "=", **ADA)
    world.system.wait()
    assert (world.fields(key), world.row(number)) == (ADA, ROW)
    world.write(key, "-")
    world.system.wait()
    assert (world.fields(key), world.row(number)) == ({}, ROW)
    world.write(key, "~")
    world.system.wait()
    assert (world.fields(key), world.row(number)) == ({}, None)


def test_for_a_function_without_the_option_it_is_a_field(world: World) -> None:
    """Also where another function of the same target has the option."""
    _, number = world.new_key()
    world.write(f"guest:{number}", "-w1", **ADA)
    eventually(lambda: world.row(number) == ROW)
    assert world.fields(f"guest:{number}") == {**ADA, "#": "-w1"}


def test_a_part_of_the_fields(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "=p1", **ADA)
    world.told(key, "p1")
    world.write(key, "=p2", last_name="King")
    assert world.told(key, "p2") == {"status": "done"}
    assert world.row(number) == ("Ada", "King", 36)
    assert world.fields(key) == {**ADA, "last_name": "King"}


def test_a_write_to_redis_alone(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "+n1", **ADA)
    assert world.told(key, "n1") == {"status": "done"}
    world.system.wait()
    assert (world.fields(key), world.row(number)) == (ADA, None)


def test_the_field_is_not_seen_by_a_later_write(world: World) -> None:
    key, number = world.new_key()
    with world.client.pipeline(transaction=False) as pipe:
        pipe.hset(key, mapping={**ADA, "#": "+"})
        pipe.hset(key, "age", "37")
        pipe.execute()
    eventually(lambda: world.row(number) == ("Ada", "Lovelace", 37))


def test_a_deletion_in_redis_alone(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "=d1", **ADA)
    world.told(key, "d1")
    world.write(key, "-d2", age="1")
    assert world.told(key, "d2") == {"status": "done"}
    world.system.wait()
    assert (world.fields(key), world.row(number)) == ({}, ROW)


def test_a_deletion_of_a_key_that_is_gone_takes_its_row(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "=g1", **ADA)
    world.told(key, "g1")
    world.write(key, "-")
    world.write(key, "~g2")
    assert world.told(key, "g2") == {"status": "done"}
    assert world.row(number) is None


def test_a_refused_row_is_told_with_its_reason(world: World) -> None:
    key, number = world.new_key()
    world.write(key, "=f1", **{**ADA, "age": "very old"})
    told = world.told(key, "f1")
    assert told["status"] == "failed" and "age" in told["error"]
    assert world.row(number) is None
    world.write(key, "!f2", **ADA)
    told = world.told(key, "f2")
    assert told["status"] == "failed" and "none of the operations" in told["error"]
    world.write(key, "=f3", **ADA)
    assert world.told(key, "f3") == {"status": "done"}
    assert world.row(number) == ROW
    assert {each["reason"] for each in world.system.letters() if each["key"] == key} > {told["error"]}


def test_many_in_one_batch(world: World) -> None:
    """Each is told, also those whose image a later one of the batch stands for."""
    key, number = world.new_key()
    with world.client.pipeline(transaction=False) as pipe:
        for at in range(200):
            pipe.hset(key, mapping={**ADA, "age": str(at), "#": f"=m{at}"})
        pipe.execute()
    assert all(world.told(key, f"m{at}") == {"status": "done"} for at in range(200))
    assert world.row(number) == ("Ada", "Lovelace", 199)


# -- What a crash may do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", "=+-~")
@pytest.mark.parametrize("host", HOSTS)
def test_a_crash_keeps_what_the_operation_left(host: str, operation: str, tmp_path: Path) -> None:
    """Wherever after the write the AOF ends, between two of its transactions, the same comes out."""
    if host == "redisgears" and home() is None:
        pytest.skip(ABSENT)
    url = f"sqlite:///{tmp_path / 'target.db'}"
    with deployed(tmp_path, host, url, *PLAIN_AOF, "--aof-load-truncated", "yes") as world:
        server, client = world.system.server, world.client
        client.hset("person:1", mapping=ADA)
        world.system.wait()
        path = aof_files(server.directory)[-1]
        size = path.stat().st_size
        world.write("person:1", operation + "c", age="1")
        world.told("person:1", "c")
        world.system.wait()
        eventually(
            lambda: client.keys("gearsync:late:*") == [] or not client.xlen(client.keys("gearsync:late:*")[0])
        )
        expected = world.fields("person:1"), world.row(1)
        server.kill9()
        text = path.read_bytes()
        commands = list(aof_commands(text))
        ends = [
            at
            for (_, words), (at, _) in itertools.pairwise(commands)
            if words[0].upper() == "EXEC" and at > size
        ]
        # RedisGears puts what the AOF lacks behind the write, in a transaction of its own.
        assert ends or not isinstance(server, RedisGears)
        for cut in [*ends, len(text)]:
            path.write_bytes(text[:cut])
            with world.system.environment():
                server.start()
            eventually(
                lambda: not client.hexists("person:1", "#") and world.fields("person:1") == expected[0]
            )
            world.system.wait()
            assert world.row(1) == expected[1]
            server.kill9()


@pytest.mark.parametrize("host", HOSTS)
def test_who_dies_after_the_commit_has_told_all_the_same(host: str, tmp_path: Path) -> None:
    """The next one finds the changes in SQL, or their dead letters, and tells."""
    if host == "redisgears" and home() is None:
        pytest.skip(ABSENT)
    once = tmp_path / "reached"
    variables = {"GEARSYNC_FAILPOINT": "after-commit", "GEARSYNC_FAILPOINT_ONCE": str(once)}
    with deployed(tmp_path, host, f"sqlite:///{tmp_path / 'target.db'}", **variables) as world:
        with world.client.pipeline(transaction=True) as pipe:
            pipe.hset("person:1", mapping={**ADA, "#": "=c"})
            pipe.hset("person:2", mapping={**ADA, "age": "old", "#": "=c"})
            pipe.execute()
        assert world.told("person:1", "c") == {"status": "done"}
        assert world.told("person:2", "c")["status"] == "failed"
        assert once.exists() and world.row(1) == ROW


def test_a_cluster_acknowledges_in_the_slot_of_the_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'target.db'}"
    run_sql(
        url, "CREATE TABLE persons (id VARCHAR(20) PRIMARY KEY, first VARCHAR(20), last TEXT, age INTEGER)"
    )
    system = System(tmp_path, FUNCTIONS.replace("{id}", "{id*}"), {"FIRST_DB_URL": url})
    with system.environment(), Cluster(redis_with_module) as cluster:
        done = gearsync("deploy", system.functions, "--redis", cluster.nodes[0].url)
        if "operations need Redis 7.2" in done.stderr + done.stdout:
            pytest.skip("operations need a server with post-notification jobs")
        assert done.returncode == 0, done.stderr
        with redis.RedisCluster(port=cluster.nodes[0].port, host="127.0.0.1") as client:
            keys = [f"person:{number}" for number in range(12)] + [f"person:{{tag{n}}}:1" for n in range(12)]
            keys += [f"person:no}}tag:{n}" for n in range(4)]
            for key in keys:
                client.hset(key, mapping={**ADA, "#": "=c"})
                client.hset(key, mapping={**ADA, "#": "+c"})
            for key in keys:
                stream = stream_of(key.encode(), b"c")
                eventually(lambda stream=stream: client.xlen(stream) == 2)  # type: ignore[misc]
