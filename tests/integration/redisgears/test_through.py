"""Write-through on RedisGears: where it can't hold a client, what it captures, and numbers as C has them."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from gears.declaring import config
from tests import hosts
from tests.integration.deploying import eventually, gearsync, rows, write
from tests.integration.redisgears.locking import locked
from tests.integration.system import System
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(40), age DOUBLE PRECISION)"
FUNCTIONS = """
from connectors import Target
from gears import ReadThrough, WriteThrough

first = Target("env:FIRST_DB_URL", name="first")
WriteThrough(
    keys="person:{id}", table="persons", columns=["name", "age"], target=first, timeout_ms=TIMEOUT
)
"""
READING = """
ReadThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, missing_ms=20)
"""


def system(folder: Path, url: str, timeout_ms: int = 5000, more: str = "", **options: Any) -> System:
    functions = FUNCTIONS.replace("TIMEOUT", str(timeout_ms)) + more
    return System(folder, functions, {"FIRST_DB_URL": url}, host="redisgears", **options)


def persons(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT id, name, age FROM persons ORDER BY id")


def test_where_no_client_can_be_held(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url)
    with world, world.server.client(protocol=2, single_connection_client=True) as client:
        client.hset("person:1", "name", "Ada")
        with client.pipeline(transaction=True) as pipe:
            pipe.hset("person:1", "name", "Eve")
            pipe.hset("person:x:y", "name", "no function has this key")
            pipe.hset("other:1", "name", "Eve")
            first, second, third = pipe.execute(raise_on_error=False)
        assert "THROUGH writes of keys that begin as this one does wait" in str(first)
        assert (str(second), third) == (str(first), 1)
        client.hset("person:x:y", "name", "no function has this key")
        client.execute_command("MULTI")
        client.execute_command("HSET", "person:1", "name", "Eve")
        client.execute_command("DISCARD")
        assert world.status()["state"] == "active"
        with pytest.raises(redis.ResponseError, match="send it alone"):
            client.eval("return redis.call('del', 'person:1')", 0)
        for command in ("RENAME person:1 person:2", "COPY other:1 person:2", "SETEX person:1 9 x"):
            with pytest.raises(redis.ResponseError, match="can't wait for an SQL commit"):
                client.execute_command(*command.split())
        assert client.rename("person:x:y", "person:y:z")
        run_sql(sqlite_url, "UPDATE persons SET age = 7")
        for words in ("-1 NX LT", f"{-(1 << 63)}", "-1 nonsense"):
            with pytest.raises(redis.ResponseError, match=r"not compatible|invalid|Unsupported|wrong"):
                client.execute_command("EXPIRE", "person:1", *words.split())
        client.config_set("maxmemory", "1mb")
        for command in ("HSET person:1 name Eve", "HSET person:x:y name Eve", "SETNX person:x:y Eve"):
            with pytest.raises(redis.OutOfMemoryError):
                client.execute_command(*command.split())
        assert client.delete("person:y:z") == 1
        client.config_set("maxmemory", 0)
        assert persons(sqlite_url) == [(1, "Ada", 7)]
        assert client.hgetall("person:1") == {b"name": b"Ada"}
        assert world.status()["captured"] == 0


def test_a_second_deployment_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url)
    with world, world.environment():
        text = (tmp_path / "functions.py").read_text().replace("person:", "animal:")
        other = write(tmp_path, text.replace('"persons"', '"animals"'), "animals.py")
        run_sql(sqlite_url, PERSONS.replace("persons", "animals"))
        done = gearsync("deploy", other, "--redis", world.server.url)
        assert done.returncode == 1
        assert "the deployment functions is write-through" in " ".join(done.stderr.split())
        done = gearsync("undeploy", "functions", "--redis", world.server.url)
        assert done.returncode == 0, done.stderr
        done = gearsync("deploy", other, "--redis", world.server.url)
        assert done.returncode == 0, done.stderr
        with world.server.client() as client:
            client.hset("animal:1", "name", "Bob")
            client.hset("person:1", "name", "nobody waits")
        assert rows(sqlite_url, "SELECT id, name FROM animals") == [(1, "Bob")]


@pytest.mark.parametrize("discard", [False, True])
def test_a_write_that_is_on_its_way_at_the_undeploy_is_in_both(
    discard: bool, sqlite_url: str, tmp_path: Path
) -> None:
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url, 30_000)
    with world as client:
        client.hset("person:1", "name", "Ada")
        host = hosts.asked(world.server)
        database = sqlite3.connect(sqlite_url.partition("///")[2], isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        thread = _in_thread(world, "HSET", "person:1", "name", "Eve")
        eventually(lambda: _writing(client) == 1)
        host.undeploy("functions", discard)
        if not discard:
            host.finish("functions")
            assert "functions" in host.deployments()
        database.execute("COMMIT")
        database.close()
        thread.join()
        if not discard:
            eventually(lambda: _writing(client) == 0)
            host.finish("functions")
        assert "functions" not in host.deployments()
        assert client.hget("person:1", "name") == b"Eve"
        assert persons(sqlite_url) == [(1, "Eve", None)]
        eventually(lambda: list(client.scan_iter("gearsync:*")) == [b"gearsync:{0}:registry"])
        host.client.close()


def test_a_write_that_is_on_its_way_at_an_upgrade_is_in_neither(sqlite_url: str, tmp_path: Path) -> None:
    """RedisGears tells its client an error."""
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url, 30_000)
    replies: list[Any] = []
    with world as client:
        client.hset("person:1", "name", "Ada")
        host = hosts.asked(world.server)
        database = sqlite3.connect(sqlite_url.partition("///")[2], isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        thread = _in_thread(world, "HSET", "person:1", "name", "Eve", replies=replies)
        eventually(lambda: _writing(client) == 1)
        functions = FUNCTIONS.replace("TIMEOUT", "30001")
        host.deploy(config.load(write(tmp_path, functions)))
        thread.join()
        database.execute("COMMIT")
        database.close()
        assert _reply(client, "HSET", "person:2", "name", "Joe") == 1
        world.wait()
        assert isinstance(replies[0], redis.ResponseError)
        assert client.hget("person:1", "name") == b"Ada"
        assert persons(sqlite_url) == [(1, "Ada", None), (2, "Joe", None)]
        host.client.close()


def _writing(client: redis.Redis) -> int:
    (told,) = client.execute_command("RG.TRIGGER", "gearsync-functions", "status")
    return int(json.loads(told)["writing"])


def test_what_is_no_write_of_a_client_is_captured(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url)
    with world as client:
        for number in (1, 2):
            client.hset(f"person:{number}", mapping={"name": "Ada", "age": number})
        assert client.expire("person:1", 100) == 1
        assert client.pexpire("person:1", 5) == 1
        eventually(lambda: not client.exists("person:1"))
        client.hset("person:1", "age", 7)
        client.set("person:2", "no hash any more")
        world.wait()
        assert persons(sqlite_url) == [(1, None, 7.0)]
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.hset("person:2", "age", 7)
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            client.execute_command("HSET", "person:2", "age")


def test_numbers_are_those_of_the_server(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    draw = random.Random(7)
    with system(tmp_path, sqlite_url) as client:
        odd = ["0x10", "-0X.8p1", "1e00001", "0e99999", "5."]
        for step in range(60):
            more = draw.choice(
                (f"{draw.uniform(-9, 9):.{draw.randrange(1, 20)}f}", f"{draw.random():e}", "3")
            )
            more = odd.pop() if odd else more
            got = client.execute_command("HINCRBYFLOAT", "person:1", "age", more)
            assert got == client.execute_command("HINCRBYFLOAT", "other:1", "age", more), (step, more)
            assert client.hget("person:1", "age") == client.hget("other:1", "age")
            assert persons(sqlite_url)[0][2] == float(client.hget("other:1", "age") or 0)
        for number in ("1e-5000", "1e4933", "0x", "0x1p", "-1e99999999999", "1" * 5120):
            expected = _reply(client, "HINCRBYFLOAT", "other:1", "age", number)
            assert _reply(client, "HINCRBYFLOAT", "person:1", "age", number) == expected
        for number in ("9223372036854775807", "1"):
            expected = _reply(client, "HINCRBY", "other:2", "age", number)
            assert _reply(client, "HINCRBY", "person:2", "age", number) == expected
        assert _reply(client, "HINCRBY", "person:2", "age", "01") == _reply(client, "HINCRBY", "o", "a", "01")


def _reply(client: redis.Redis, *words: str) -> Any:
    try:
        return client.execute_command(*words)
    except redis.ResponseError as error:
        return str(error)


def test_who_has_waited_too_long_is_told_and_the_row_is_taken_back(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, PERSONS)
    world = system(tmp_path, postgres_url, 800)
    with world as client:
        client.hset("person:1", "name", "Ada")
        process = world.status()["worker"]["pid"]
        with locked(postgres_url):
            began = time.monotonic()
            with pytest.raises(redis.ResponseError, match="THROUGH "):
                client.hset("person:1", "name", "Eve")
            assert time.monotonic() - began < 3
            assert client.hget("person:1", "name") == b"Ada"
        eventually(lambda: _reply(client, "HSET", "person:2", "name", "Joe") in (0, 1))
        world.wait()
        assert persons(postgres_url) == [(1, "Ada", None), (2, "Joe", None)]
        assert process > 0


def test_a_replica_takes_no_write(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url)
    with world as client, world.environment(), RedisGears() as replica, replica.client() as other:
        client.hset("person:1", "name", "Ada")
        other.replicaof("127.0.0.1", str(world.server.port))
        eventually(lambda: other.info("replication")["master_link_status"] == "up")
        eventually(lambda: other.hget("person:1", "name") == b"Ada")
        # Also none of a key that no function covers: its commands are hooked as well.
        for command, key in (("HSET", "person:1"), ("HSET", "person:x:y"), ("RENAME", "person:x:y")):
            with pytest.raises(redis.ReadOnlyError):
                other.execute_command(command, key, "person:x:z", *(["Eve"] if command == "HSET" else []))
        client.hset("person:1", "name", "Joe")
        assert client.execute_command("WAIT", 1, 5000) == 1
        world.server.kill9()
        other.replicaof("NO", "ONE")
        eventually(lambda: _reply(other, "HSET", "person:2", "name", "Eve") in (0, 1))
        assert other.hget("person:1", "name") == b"Joe"
        assert persons(sqlite_url) == [(1, "Joe", None), (2, "Eve", None)]


def test_what_redis_forgot_comes_back_before_any_command_is_answered(sqlite_url: str, tmp_path: Path) -> None:
    """Also before one that changes nothing as long as that is not back."""
    run_sql(sqlite_url, PERSONS)
    world = system(tmp_path, sqlite_url, 30_000, options=("--appendonly", "no"))
    with world as client, world.environment():
        client.hset("person:1", "name", "Ada")
        client.save()
        client.hset("person:1", "age", 7)
        client.hset("person:2", "name", "Joe")
        world.server.kill9()
        world.server.start()
        assert _reply(client, "HDEL", "person:1", "age") == 1
        assert _reply(client, "HSETNX", "person:2", "name", "Eve") == 0
        assert client.hgetall("person:1") == {b"name": b"Ada"}
        assert client.hgetall("person:2") == {b"name": b"Joe"}
        world.wait()
        assert persons(sqlite_url) == [(1, "Ada", None), (2, "Joe", None)]


def test_what_waits_for_sql_while_the_server_is_a_replica_is_not_done_by_it(
    postgres_url: str, tmp_path: Path
) -> None:
    """Neither what is committed by then, of which the new primary knows, nor what waits behind it."""
    run_sql(postgres_url, PERSONS)
    world = system(tmp_path, postgres_url, 20_000)
    with world as client, world.environment(), RedisGears() as other:
        second = other.client(protocol=2, socket_timeout=60)
        client.hset("person:1", "age", 1)
        second.replicaof("127.0.0.1", str(world.server.port))
        eventually(lambda: second.hget("person:1", "age") == b"1")
        with locked(postgres_url):
            threads = [_in_thread(world, "HINCRBY", "person:1", "age", "10") for _ in range(2)]
            eventually(lambda: _are_waiting(postgres_url))
            second.replicaof("NO", "ONE")
            client.replicaof("127.0.0.1", str(other.port))
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        for each in threads:
            each.join()
        # The first one had been sent to SQL already.
        assert _reply(second, "HINCRBY", "person:1", "age", "100") in (101, 111)
        client.replicaof("NO", "ONE")
        eventually(lambda: type(_reply(client, "HINCRBY", "person:1", "age", "1000")) is int)
        world.wait()
        assert client.hget("person:1", "age") in (b"1101", b"1111")
        assert persons(postgres_url)[0][2] == float(client.hget("person:1", "age") or 0)


def _in_thread(world: System, *words: str, replies: list[Any] | None = None) -> threading.Thread:
    def work() -> None:
        with world.server.client(protocol=2, socket_timeout=60) as own:
            try:
                reply = own.execute_command(*words)
            except redis.RedisError as error:
                reply = error
            if replies is not None:
                replies.append(reply)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _are_waiting(url: str) -> bool:
    """Whether a transaction waits for a lock."""
    return bool(run_sql(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


def test_reads_and_writes_through_together(database_url: str, tmp_path: Path) -> None:
    """Each client has its own key, which others read: it reads what it wrote, as SQL has it."""
    run_sql(database_url, PERSONS)
    world = system(tmp_path, database_url, more=READING)
    wrong: list[Any] = []
    ended = threading.Event()
    with world as client:

        def read(number: int) -> None:
            with world.server.client() as own:
                while not ended.is_set():
                    own.hget(f"person:{number}", "age")

        def live(number: int) -> None:
            draw, key, last = random.Random(number), f"person:{number}", None
            with world.server.client() as own:
                for step in range(60):
                    act = draw.random()
                    if act < 0.3:
                        own.hset(key, "age", step)
                        last = float(step)
                    elif act < 0.5 and last is not None:
                        last = float(own.hincrbyfloat(key, "age", 1))
                    elif act < 0.7:
                        own.delete(key)
                        last = None
                    else:
                        got = own.hget(key, "age")
                        if (None if got is None else float(got)) != last:
                            wrong.append((key, step, last, got))

        threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
        others = [threading.Thread(target=read, args=(number,)) for number in range(4)]
        for each in threads + others:
            each.start()
        for each in threads:
            each.join()
        ended.set()
        for each in others:
            each.join()
        assert wrong == []
        table = {row[0]: row[2] for row in persons(database_url)}
        for number in range(4):
            age = client.hget(f"person:{number}", "age")
            assert table.get(number) == (None if age is None else float(age))
