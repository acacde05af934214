"""Read-through on RedisGears: the replies that it gives, and where it can't."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import eventually, gearsync, rows, write
from tests.integration.redisgears.locking import locked
from tests.integration.system import System
from tests.redisgears import skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(40), age INTEGER)"
FUNCTIONS = """
from connectors import Target
from gears import ReadThrough, WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
ReadThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, %s)
"""
BEHIND = """WriteBehind(
    keys="person:{id}", table="persons", columns=["name", "age"], target=first, on_expire="keep"
)
"""


def system(folder: Path, url: str, options: str = "", more: str = "", **others: Any) -> System:
    return System(folder, FUNCTIONS % options + more, {"FIRST_DB_URL": url}, host="redisgears", **others)


def put(url: str, *numbers: int) -> None:
    for number in numbers:
        run_sql(url, f"INSERT INTO persons VALUES ({number}, '+Ada', {number})")


def test_each_command_replies_as_if_the_hash_had_been_there(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    put(sqlite_url, *range(1, 16))
    with system(tmp_path, sqlite_url) as client:
        assert client.hget("person:1", "name") == b"+Ada"
        assert client.hget("person:2", "nothing") is None
        assert client.hgetall("person:3") == {b"name": b"+Ada", b"age": b"3"}
        assert client.hmget("person:4", "age", "name") == [b"4", b"+Ada"]
        assert client.hmget("person:5", "no", "nothing") == [None, None]
        assert client.hexists("person:6", "age")
        assert client.hlen("person:7") == 2
        assert client.hstrlen("person:8", "name") == 4
        assert client.hkeys("person:9") == [b"name", b"age"]
        assert client.hvals("person:10") == [b"+Ada", b"10"]
        assert client.hrandfield("person:11") in (b"name", b"age")
        assert client.exists("person:12", "person:13", "person:99", "other", "person:1") == 3
        assert client.type("person:14") == b"hash"
        assert client.ttl("person:14") == -1
        with pytest.raises(redis.ResponseError, match="has not all the fields"):
            client.hmget("person:15", "age", "nothing")
        assert client.hmget("person:15", "age", "nothing") == [b"15", None]
        with pytest.raises(redis.ResponseError, match="no UTF-8"):
            client.hget("person:16", b"\xff")
        assert client.hget("person:16", b"\xff") is None


def test_in_a_transaction_or_a_script_a_miss_is_a_miss(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    put(sqlite_url, 1, 2)
    with system(tmp_path, sqlite_url) as client:
        with client.pipeline(transaction=True) as pipe:
            pipe.hget("person:1", "name")
            assert pipe.execute() == [None]
        assert client.eval("return redis.call('hget', 'person:2', 'name')", 0) is None
        assert client.hget("person:1", "name") == b"+Ada"


def test_what_is_loaded_is_no_change_and_what_is_written_is(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    put(sqlite_url, 1)
    world = system(tmp_path, sqlite_url, "ttl=100", BEHIND)
    with world as client:
        assert client.hget("person:1", "name") == b"+Ada"
        assert 90 < client.ttl("person:1") <= 100
        assert world.status()["captured"] == 0
        client.hset("person:1", "age", 7)
        client.delete("person:1")
        assert client.hget("person:1", "name") is None
        assert rows(sqlite_url, "SELECT * FROM persons") == []
        client.hset("person:1", "age", 8)
        world.wait()
        assert world.status()["captured"] == 3
        assert rows(sqlite_url, "SELECT * FROM persons") == [(1, None, 8)]


def test_many_misses_at_once_are_one_row_each(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, PERSONS)
    put(postgres_url, *range(20))
    world = system(tmp_path, postgres_url)
    with world as client:
        got: list[Any] = []

        def read(number: int) -> None:
            with world.server.client() as own:
                got.append((number, own.hget(f"person:{number}", "age")))

        threads = [threading.Thread(target=read, args=(at % 20,)) for at in range(60)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(set(got)) == [(number, b"%d" % number) for number in range(20)]
        assert len(got) == 60
        assert client.ping()


def test_while_the_database_is_away(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    url = f"sqlite:///{tmp_path / 'away' / 'target.db'}"
    with system(tmp_path / "one", url, away=True) as client:
        with pytest.raises(
            redis.ResponseError, match=r"READTHROUGH the row could not be read from first: .*open"
        ):
            client.hget("person:1", "name")
    (tmp_path / "two").mkdir()
    with system(tmp_path / "two", url, 'on_failure="miss"', away=True) as client:
        assert client.hget("person:1", "name") is None
        (tmp_path / "away").mkdir()
        run_sql(url, PERSONS)
        put(url, 1)
        assert client.hget("person:1", "name") == b"+Ada"


def test_a_client_waits_for_its_own_change_and_no_longer_than_it_may(
    postgres_url: str, tmp_path: Path
) -> None:
    run_sql(postgres_url, PERSONS)
    put(postgres_url, 1)
    world = system(tmp_path, postgres_url, "timeout_ms=300", BEHIND)
    with world as client:
        assert client.hget("person:1", "name") == b"+Ada"
        world.wait()
        with locked(postgres_url):
            client.delete("person:1")
            with pytest.raises(redis.ResponseError, match="person:1 was not read within 300 ms"):
                client.hget("person:1", "name")
            assert client.ping()
        world.wait()
        assert client.hget("person:1", "name") is None


def test_a_change_from_before_anybody_read_is_waited_for(postgres_url: str, tmp_path: Path) -> None:
    """The first deployment that reads comes while changes of another one wait."""
    run_sql(postgres_url, PERSONS)
    put(postgres_url, 1)
    functions = FUNCTIONS.split("ReadThrough(")[0] + BEHIND
    world = System(tmp_path, functions, {"FIRST_DB_URL": postgres_url}, host="redisgears")
    with world as client, world.environment():
        client.hset("person:2", "name", "Joe")
        world.wait()
        with locked(postgres_url):
            client.hset("person:1", "name", "Eve")
            client.delete("person:1")
            reading = write(tmp_path, FUNCTIONS % "timeout_ms=300", "reading.py")
            done = gearsync("deploy", reading, "--offline", "--redis", world.server.url)
            assert done.returncode == 0, done.stderr
            with pytest.raises(redis.ResponseError, match="READTHROUGH"):
                client.hget("person:1", "name")
        world.wait()
        eventually(lambda: _read(client, "person:2") == b"Joe")
        assert _read(client, "person:1") is None


def _read(client: redis.Redis, key: str) -> object:
    try:
        return client.hget(key, "name")
    except redis.ResponseError as error:
        return str(error)


def test_a_new_version_reads_on(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    put(sqlite_url, 1, 2)
    world = system(tmp_path, sqlite_url)
    with world as client:
        assert client.hget("person:1", "name") == b"+Ada"
        world.functions = write(tmp_path, FUNCTIONS % "missing_ms=5")
        with world.environment():
            done = gearsync("deploy", world.functions, "--redis", world.server.url)
        assert done.returncode == 0 and "ends the server when clients read" in " ".join(done.stderr.split())
        assert client.hget("person:2", "name") == b"+Ada"
        done = gearsync("undeploy", "functions", "--redis", world.server.url)
        assert done.returncode == 0, done.stderr
        client.delete("person:1")
        assert client.hget("person:1", "name") is None


def test_a_row_that_is_not_there_is_asked_for_once_a_while(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, PERSONS)
    with system(tmp_path, sqlite_url, "missing_ms=1000") as client:
        assert client.hget("person:1", "name") is None
        put(sqlite_url, 1)
        assert client.hget("person:1", "name") is None
        eventually(lambda: client.hget("person:1", "name") == b"+Ada")


def test_who_writes_and_deletes_keys_reads_what_it_wrote(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    world = system(tmp_path, database_url, "missing_ms=50", BEHIND)
    wrong: list[Any] = []
    ended = threading.Event()
    with world as client:

        def read(number: int) -> None:
            with world.server.client() as own:
                while not ended.is_set():
                    own.hget(f"person:{number}", "age")

        def hold() -> None:
            """Let rows come late, so that they are old by then."""
            while not ended.is_set():
                with stopped(reading_process(world.server.pid)):
                    time.sleep(0.06)
                time.sleep(0.01)

        def live(number: int) -> None:
            draw = random.Random(number)
            key, last = f"person:{number}", None
            with world.server.client() as own:
                for step in range(120):
                    act = draw.random()
                    time.sleep(draw.choice((0, 0, 0.02)))
                    if act < 0.3:
                        own.hset(key, "age", step)
                        last = b"%d" % step
                    elif act < 0.6:
                        own.delete(key)
                        last = None
                    elif own.hget(key, "age") != last:
                        wrong.append((key, step, last))

        threads = [threading.Thread(target=live, args=(number,)) for number in range(6)]
        others = [threading.Thread(target=read, args=(number,)) for number in range(6)]
        others.append(threading.Thread(target=hold))
        for each in threads + others:
            each.start()
        for each in threads:
            each.join()
        ended.set()
        for each in others:
            each.join()
        world.wait()
        assert wrong == []
        found = {row[0]: row[2] for row in rows(database_url, "SELECT * FROM persons")}
        for number in range(6):
            age = client.hget(f"person:{number}", "age")
            assert found.get(number) == (None if age is None else int(age))


def reading_process(parent: int) -> int:
    """Return the child of Redis that reads rows; those that write have a lower priority."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,ni=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    )
    return next(int(pid) for pid, nice in map(str.split, listed.stdout.splitlines()) if nice == "0")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
