"""Read-through with the worker that the module starts, and real databases."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import eventually, rows, write
from tests.integration.module.reading import hash_of
from tests.integration.system import System
from tests.servers import RedisServer, run_sql

HEAD = """
from __future__ import annotations

from connectors import Target
from gears import ReadThrough, WriteBehind, WriteThrough

first = Target("env:FIRST_DB_URL", name="first")
"""
READS = 'ReadThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, OPTIONS)\n'
WRITES = READS.replace("ReadThrough", "WriteBehind").replace(
    "OPTIONS", 'on_expire="keep", on_delete="ON_DELETE"'
)
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20), age INTEGER)"


def functions(options: str = "", writes: str = "", kind: str = "WriteBehind") -> str:
    """Return the source of functions that read, and (``writes``: what a deletion does to the row) write."""
    written = WRITES.replace("ON_DELETE", writes).replace("WriteBehind", kind)
    return HEAD + (written if writes else "") + READS.replace("OPTIONS", options)


def in_threads(server: RedisServer, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send each command on a connection of its own, all at once; return the replies or errors."""
    replies: list[Any] = [None] * len(commands)
    start = threading.Barrier(len(commands))

    def run(index: int) -> None:
        with server.client(socket_timeout=60) as client:
            start.wait()
            try:
                replies[index] = client.execute_command(*commands[index])
            except redis.RedisError as error:
                replies[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(commands))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return replies


def persons(url: str, number: int = 3) -> None:
    run_sql(url, PERSONS)
    for each in range(number):
        run_sql(url, f"INSERT INTO persons VALUES ({each}, 'n{each}', {each * 10})")


def reads(system: System) -> dict[str, int]:
    found: dict[str, int] = system.status()["reads"]
    return found


@contextlib.contextmanager
def stalled_worker(system: System) -> Iterator[int]:
    """Stop the worker, as a database that does not answer would; yields its pid."""
    pid: int = system.status()["worker"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Reader(threading.Thread):
    """A client that reads; ``reply`` is what it got."""

    def __init__(self, system: System, *words: Any) -> None:
        super().__init__(daemon=True)
        self._server, self._words = system.server, words
        self.reply: Any = None
        self.start()

    def run(self) -> None:
        with self._server.client(socket_timeout=60) as client:
            try:
                self.reply = client.execute_command(*self._words)
            except redis.RedisError as error:
                self.reply = error

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive()
        return self.reply


def test_rows_become_hashes(host: str, database_url: str, tmp_path: Path) -> None:
    persons(database_url)
    run_sql(database_url, "INSERT INTO persons VALUES (7, 'no age', NULL), (8, NULL, NULL)")
    system = System(tmp_path, functions("ttl=600"), {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        assert client.hget("person:1", "name") == b"n1"
        assert hash_of(client, "person:1") == {b"name": b"n1", b"age": b"10"}
        assert 0 < client.ttl("person:1") <= 600
        assert client.hget("person:7", "age") is None
        assert hash_of(client, "person:7") == {b"name": b"no age"}
        assert [client.exists(f"person:{key}") for key in (2, 8, 9, "x")] == [1, 0, 0, 0]
        assert client.execute_command("TYPE", "person:0") == b"hash"
        assert reads(system) == {"misses": 7, "loaded": 4, "missing": 3, "waiting": 0, "failed": 0}
        assert system.status()["backlog"]["entries"] == 0


def test_many_misses_at_once(host: str, database_url: str, tmp_path: Path) -> None:
    persons(database_url, 50)
    system = System(tmp_path, functions(), {"FIRST_DB_URL": database_url}, host=host)
    with system:
        commands = [("HGET", f"person:{number % 50}", "name") for number in range(200)]
        replies = in_threads(system.server, commands)
        assert replies == [f"n{number % 50}".encode() for number in range(200)]
        assert reads(system)["loaded"] == 50


@pytest.mark.one_database
@pytest.mark.parametrize("ending", ["deleted", "expired"])
def test_a_row_that_write_behind_has_not_brought_yet_never_comes_back(
    host: str, database_url: str, tmp_path: Path, ending: str
) -> None:
    """SQL has the old row as long as the worker stands still."""
    persons(database_url)
    system = System(
        tmp_path, functions("ttl=600", writes="delete"), {"FIRST_DB_URL": database_url}, host=host
    )
    with system as client:
        assert client.hget("person:1", "name") == b"n1"
        with stalled_worker(system):
            client.hset("person:1", "name", "newer")
            if ending == "deleted":
                client.delete("person:1")
            else:
                client.pexpire("person:1", 25)
                eventually(lambda: not client.keys("person:1"))
            reader = Reader(system, "HGET", "person:1", "name")
            eventually(lambda: reads(system)["waiting"] == 1)
        assert reader.result() == (None if ending == "deleted" else b"newer")


def test_with_write_through(host: str, database_url: str, tmp_path: Path) -> None:
    persons(database_url)
    declared = functions("ttl=600", writes="delete", kind="WriteThrough")
    with System(tmp_path, declared, {"FIRST_DB_URL": database_url}, host=host) as client:
        assert client.hget("person:1", "name") == b"n1"
        client.hset("person:1", "name", "newer")
        client.pexpire("person:1", 25)
        eventually(lambda: not client.keys("person:1"))
        assert hash_of(client, "person:1") == {b"name": b"newer", b"age": b"10"}
        client.delete("person:1")
        assert client.hget("person:1", "name") is None
        # What is loaded takes part in the next write.
        assert client.exists("person:2") == 1
        assert client.hincrby("person:2", "age", 1) == 21
        assert rows(database_url, "SELECT id, name, age FROM persons ORDER BY id")[1:] == [(2, "n2", 21)]


@pytest.mark.one_database
@pytest.mark.parametrize("kind", ["WriteBehind", "WriteThrough"])
def test_reads_beside_writes_that_expire(host: str, database_url: str, tmp_path: Path, kind: str) -> None:
    """Under load, no reader ever sees a value older than one that was written before it began to read."""
    persons(database_url, 0)
    # On a slow machine even PEXPIRE 1 can come too late, and is a deletion.
    declared = functions("ttl=600, missing_ms=50", writes="keep", kind=kind)
    system = System(tmp_path, declared, {"FIRST_DB_URL": database_url}, host=host)
    written = [0] * 4
    over = threading.Event()
    stale: list[tuple[int, int, Any]] = []

    def write(key: int) -> None:
        with system.server.client() as client:
            while not over.is_set():
                client.hset(f"person:{key}", "age", written[key] + 1)
                written[key] += 1
                if written[key] % 3:
                    continue
                client.pexpire(f"person:{key}", 1)
                for _ in range(20):
                    found = client.hget(f"person:{key}", "age")
                    if found != b"%d" % written[key]:
                        stale.append((key, written[key], found))

    def read(number: int) -> None:
        with system.server.client(socket_timeout=60) as client:
            for turn in range(150):
                key = (number + turn) % 4
                before = written[key]
                found = client.hget(f"person:{key}", "age")
                if int(found or 0) < before:
                    stale.append((key, before, found))

    with system:
        writers = [threading.Thread(target=write, args=(key,)) for key in range(4)]
        readers = [threading.Thread(target=read, args=(number,)) for number in range(6)]
        for thread in [*writers, *readers]:
            thread.start()
        for thread in readers:
            thread.join(120)
        over.set()
        for thread in writers:
            thread.join(60)
        assert stale == []
        assert reads(system)["loaded"] > 0
        assert reads(system)["failed"] == 0


@pytest.mark.parametrize("policy", ["error", "miss"])
def test_a_database_that_is_away(tmp_path: Path, policy: str) -> None:
    url = f"sqlite:///{tmp_path / 'first' / 'target.db'}"
    options = f'on_failure="{policy}", timeout_ms=60000, missing_ms=0'
    system = System(tmp_path, functions(options), {"FIRST_DB_URL": url}, away=True)
    with system as client:
        for _ in range(20):
            if policy == "error":
                with pytest.raises(
                    redis.ResponseError, match=r"^READTHROUGH the row could not be read from first: .*unable"
                ):
                    client.hget("person:1", "name")
            else:
                assert client.hget("person:1", "name") is None
        system.until_waiting("first", "unable to open")
        lines = [line for line in system.server.log_text().splitlines() if "load from first" in line]
        assert len(lines) <= 2
        (tmp_path / "first").mkdir()
        persons(url)
        # Nobody has to read for the worker to see it.
        eventually(lambda: system.target("first")["state"] == "running")
        eventually(lambda: _name_of(client, "person:1") == b"n1")


def _name_of(client: redis.Redis, key: str) -> bytes | None:
    try:
        return client.hget(key, "name")  # type: ignore[return-value]
    except redis.ResponseError as error:
        assert "READTHROUGH" in str(error)
        return None


def test_a_table_that_does_not_fit(host: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'target.db'}"
    run_sql(url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20))")
    system = System(tmp_path, functions(), {"FIRST_DB_URL": url}, away=True, host=host)
    with system as client:
        with pytest.raises(redis.ResponseError, match="no column age"):
            client.hget("person:1", "name")
        run_sql(url, "ALTER TABLE persons ADD COLUMN age INTEGER")
        run_sql(url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
        eventually(lambda: _name_of(client, "person:1") == b"Ada")


def test_a_worker_that_is_killed_over_a_read(host: str, sqlite_url: str, tmp_path: Path) -> None:
    persons(sqlite_url)
    system = System(tmp_path, functions("timeout_ms=60000"), {"FIRST_DB_URL": sqlite_url}, host=host)
    with system as client:
        assert client.hget("person:0", "name") == b"n0"
        with stalled_worker(system) as pid:
            reader = Reader(system, "HGET", "person:1", "name")
            eventually(lambda: reads(system)["waiting"] == 1)
            os.kill(pid, signal.SIGKILL)
        assert reader.result() == b"n1"


def test_a_new_version_over_reads(host: str, sqlite_url: str, tmp_path: Path) -> None:
    persons(sqlite_url)
    system = System(tmp_path, functions("timeout_ms=60000"), {"FIRST_DB_URL": sqlite_url}, host=host)
    with system as client:
        with stalled_worker(system):
            reader = Reader(system, "HGET", "person:1", "name")
            eventually(lambda: reads(system)["waiting"] == 1)
            write(tmp_path, functions("timeout_ms=60000, ttl=600"))
            with system.environment():
                again = threading.Thread(target=system.deploy)
                again.start()
                eventually(lambda: system.status()["version"] == 2)
        again.join(60)
        assert reader.result() == b"n1"
        assert client.hget("person:2", "name") == b"n2"
        assert client.ttl("person:2") > 0


def test_refresh_ahead(sqlite_url: str, tmp_path: Path) -> None:
    persons(sqlite_url)
    system = System(tmp_path, functions("ttl=600, refresh_ahead=500"), {"FIRST_DB_URL": sqlite_url})
    with system as client:
        assert client.hget("person:1", "name") == b"n1"
        run_sql(sqlite_url, "UPDATE persons SET name = 'changed' WHERE id = 1")
        assert client.hget("person:1", "name") == b"n1"
        client.expire("person:1", 400)
        assert client.hget("person:1", "name") == b"n1"
        eventually(lambda: client.hget("person:1", "name") == b"changed")
        assert client.ttl("person:1") > 500
