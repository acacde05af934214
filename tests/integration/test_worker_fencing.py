"""Two workers of one lane, and a worker that is asked to end while the database keeps it waiting."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.command import environment, gearsync, until
from tests.integration.deploying import ROOT
from tests.servers import RedisServer

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="external")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=Target("env:REPORTING_DB_URL"))
"""
TABLES = """
CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE history (seq INTEGER PRIMARY KEY, id INTEGER, name TEXT);
CREATE TRIGGER inserted AFTER INSERT ON persons
    BEGIN INSERT INTO history (id, name) VALUES (NEW.id, NEW.name); END;
CREATE TRIGGER updated AFTER UPDATE ON persons
    BEGIN INSERT INTO history (id, name) VALUES (NEW.id, NEW.name); END;
"""


class World:
    """A Redis without workers of its own, a SQLite database, and workers as processes."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        self.server = server
        self.log = folder / "worker.log"
        self.database = folder / "reporting.db"
        self.variables: dict[str, Any] = {
            "REPORTING_DB_URL": f"sqlite:///{self.database}",
            "GEARSYNC_REDIS": server.url,
        }
        connection = sqlite3.connect(self.database)
        connection.executescript(TABLES)
        connection.close()
        functions = folder / "functions.py"
        functions.write_text(FUNCTIONS)
        done = gearsync("deploy", str(functions), **self.variables)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process, killed at the end if it still runs."""
        command = [sys.executable, "-m", "gears.worker", "--deployment", "people", "--redis", self.server.url]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stderr=log, env=environment(**self.variables), cwd=ROOT, stdin=subprocess.DEVNULL
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


@pytest.fixture
def world(redis_server: RedisServer, tmp_path: Path) -> World:
    return World(tmp_path, redis_server)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as found:
        yield found


def report(client: redis.Redis) -> dict[str, Any]:
    document = json.loads(client.execute_command("GEARSYNC.STATUS"))
    found: dict[str, Any] = document["deployments"][0]["worker"]["report"] or {}
    return found


def works(client: redis.Redis, pid: int) -> bool:
    """Whether the worker that reports is this one."""
    return report(client).get("pid") == pid


def write(client: redis.Redis, numbers: range, name: str) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.hset(f"person:{number}", "name", name)
        pipe.execute()


def test_a_worker_that_slept_is_fenced_by_the_one_that_took_over(world: World, client: redis.Redis) -> None:
    with world.worker() as first:
        until(lambda: report(client).get("state") == "running")
        write(client, range(100), "one")
        client.execute_command("GEARSYNC.WAIT", 9000)
        first.send_signal(signal.SIGSTOP)
        write(client, range(100), "two")
        with world.worker() as second:
            until(lambda: world.rows("SELECT count(*) FROM persons WHERE name = 'two'") == [(100,)])
            first.send_signal(signal.SIGCONT)
            write(client, range(100, 200), "three")
            assert first.wait(30) == 3
            client.execute_command("GEARSYNC.WAIT", 9000)
            second.terminate()
            assert second.wait(30) == 0
    assert "fenced: another worker has claimed" in world.log.read_text()
    assert world.rows("SELECT id, name FROM history GROUP BY id, name HAVING count(*) > 1") == []
    assert world.rows("SELECT count(*) FROM history") == [(300,)]


def test_a_worker_that_is_asked_to_end_leaves_the_batch_whole_or_untouched(
    world: World, client: redis.Redis
) -> None:
    """The database is locked by somebody else, so that the batch in flight can't be committed."""
    holder = sqlite3.connect(world.database, isolation_level=None)
    with world.worker() as first:
        until(lambda: report(client).get("state") == "running")
        write(client, range(10), "one")
        client.execute_command("GEARSYNC.WAIT", 9000)
        holder.execute("BEGIN IMMEDIATE")
        write(client, range(100), "two")
        first.terminate()
        assert first.wait(30) == 0
    holder.execute("ROLLBACK")
    holder.close()
    assert world.rows("SELECT count(*) FROM persons") == [(10,)]
    with world.worker() as second:
        client.execute_command("GEARSYNC.WAIT", 9000)
        second.terminate()
        assert second.wait(30) == 0
    assert world.rows("SELECT count(*), count(DISTINCT id) FROM persons WHERE name = 'two'") == [(100, 100)]
    assert world.rows("SELECT count(*) FROM history") == [(110,)]


def test_a_worker_ends_in_order_under_load(world: World, client: redis.Redis) -> None:
    """Ended again and again in the middle of its work, it applies each change once."""
    for turn in range(5):
        with world.worker() as worker:
            write(client, range(turn * 1000, turn * 1000 + 1000), f"turn {turn}")
            until(functools.partial(works, client, worker.pid))
            worker.terminate()
            assert worker.wait(30) == 0
    with world.worker():
        client.execute_command("GEARSYNC.WAIT", 30000)
    assert world.rows("SELECT count(*), count(DISTINCT id) FROM history") == [(5000, 5000)]


def test_what_a_restored_redis_captures_before_its_epoch_is_raised_is_not_skipped(
    world: World, client: redis.Redis
) -> None:
    """Redis as of a backup: its epoch is lower than the one SQL knows, until an operator raises it."""
    with world.worker() as worker:
        write(client, range(2), "before")
        client.execute_command("GEARSYNC.WAIT", 9000)
        worker.terminate()
        worker.wait()
    with sqlite3.connect(world.database) as connection:
        connection.execute("UPDATE gearsync_checkpoint SET owner_epoch = 7, epoch = 7")
    connection.close()
    write(client, range(1, 3), "since")
    with world.worker() as worker:
        assert worker.wait(30) == 3
    client.execute_command("GEARSYNC.EPOCH", 1000)
    with world.worker():
        assert client.execute_command("GEARSYNC.WAIT", 20_000) == b"OK"
        write(client, range(3, 4), "later")
        assert client.execute_command("GEARSYNC.WAIT", 20_000) == b"OK"
    rows = [(0, "before"), (1, "since"), (2, "since"), (3, "later")]
    assert world.rows("SELECT id, name FROM persons ORDER BY id") == rows
    assert world.rows("SELECT epoch FROM gearsync_checkpoint") == [(1000,)]
