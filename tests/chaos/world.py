"""A whole system to break: Redis with the module and its worker, one database, and clients that write.

The table's history, kept by triggers, is what shows a change that was applied twice or out of order: every
write brings a version that no other write has, and that grows.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from tests import hosts
from tests.servers import RedisServer, run_sql

URL_VARIABLE = "CHAOS_DB_URL"
KEYS = 300

FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind

WriteBehind(
    keys="person:{{person_id}}",
    table="persons",
    columns=["version", "note", "age"],
    target=Target("env:{URL_VARIABLE}", name="chaos"),
)
"""

PERSONS = (
    "CREATE TABLE persons (person_id INTEGER PRIMARY KEY, version BIGINT, note VARCHAR(40), age INTEGER)"
)
HISTORY = "CREATE TABLE history (seq {}, person_id INTEGER, version BIGINT, note VARCHAR(40))"
_KEEP = "INSERT INTO history (person_id, version, note) VALUES (NEW.person_id, NEW.version, NEW.note)"
TABLES = {
    "postgresql": [
        PERSONS,
        HISTORY.format("BIGSERIAL PRIMARY KEY"),
        f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_KEEP}; RETURN NULL; END $$",
        "CREATE TRIGGER kept AFTER INSERT OR UPDATE ON persons FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
    "mysql": [
        PERSONS,
        HISTORY.format("BIGINT AUTO_INCREMENT PRIMARY KEY"),
        f"CREATE TRIGGER kept_insert AFTER INSERT ON persons FOR EACH ROW {_KEEP}",
        f"CREATE TRIGGER kept_update AFTER UPDATE ON persons FOR EACH ROW {_KEEP}",
    ],
    "sqlite": [
        PERSONS,
        HISTORY.format("INTEGER PRIMARY KEY"),
        f"CREATE TRIGGER kept_insert AFTER INSERT ON persons BEGIN {_KEEP}; END",
        f"CREATE TRIGGER kept_update AFTER UPDATE ON persons BEGIN {_KEEP}; END",
    ],
}


W = TypeVar("W", bound="World")


class World:
    """Redis, its worker and a database; ``seed`` makes a run repeatable as far as timing allows.

    ``options`` are more of the server, ``host`` is what runs there; the other keywords are its environment.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        seed: int,
        options: Sequence[str] = (),
        host: str = "module",
        **environment: str,
    ) -> None:
        self.url = url
        self.directory = directory
        self.random = random.Random(seed)
        self.versions = itertools.count(1)
        self.lock = threading.Lock()
        self.errors: list[BaseException] = []
        self.written = 0
        self.functions = FUNCTIONS
        self._environment = {URL_VARIABLE: url, **environment}
        self.server = hosts.server_of(host, "--appendonly", "yes", "--appendfsync", "always", *options)

    def start(self) -> None:
        """Create the tables, start Redis and deploy."""
        dialect = make_url(self.url).get_backend_name()
        for statement in TABLES["mysql" if dialect == "mariadb" else dialect]:
            run_sql(self.url, statement)
        # The worker inherits the server's environment: that is where it finds the database.
        before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)
        try:
            self.server.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        source = self.directory / "functions.py"
        source.write_text(self.functions)
        command = [sys.executable, "-m", "deploy", "deploy", str(source), "--redis", self.server.url]
        done = subprocess.run(
            command,
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.server.log_text()

    def stop(self) -> None:
        """Stop Redis, and the worker with it."""
        self.server.stop()

    def restart_server(self) -> None:
        """kill -9 Redis and start it again on the same folder."""
        os.environ.update(self._environment)
        try:
            self.server.restart()
        finally:
            for name in self._environment:
                os.environ.pop(name, None)

    def status(self) -> dict[str, Any]:
        """The one deployment's part of GEARSYNC.STATUS."""
        deployment: dict[str, Any] = hosts.status(self.server)["deployments"][0]
        return deployment

    def worker_pid(self) -> int:
        """The worker's process id; 0 when there is none just now."""
        return int(self.status()["worker"]["pid"])

    # -- Clients ----------------------------------------------------------------------------------------

    def _commands(self, dice: random.Random) -> list[tuple[Any, ...]]:
        key = f"person:{dice.randrange(KEYS)}"
        version = next(self.versions)
        kind = dice.random()
        if kind < 0.60:
            return [("HSET", key, "version", version, "note", f"n{version}", "age", version % 90)]
        if kind < 0.75:
            return [("HSET", key, "version", version)]
        if kind < 0.85:
            return [("HSET", key, "version", version, "note", "gone"), ("HDEL", key, "note")]
        if kind < 0.93:
            return [("DEL", key)]
        return [("HSET", key, "version", version), ("RENAME", key, f"person:{dice.randrange(KEYS)}")]

    def _write_some(self, client: redis.Redis, writes: list[list[tuple[Any, ...]]]) -> None:
        """Run each write as a transaction, all in one go; a lost connection leaves open which of them ran."""
        with client.pipeline(transaction=False) as pipe:
            for commands in writes:
                for command in [("MULTI",), *commands, ("EXEC",)]:
                    pipe.execute_command(*command)
            pipe.execute()

    def _client_loop(self, count: int, seed: int) -> None:
        dice = random.Random(seed)
        # A client that retried by itself would write a version twice.
        client = self.server.client(socket_timeout=5, retry=Retry(NoBackoff(), 0))
        deadline = time.monotonic() + 300
        while count > 0:
            try:
                with self.lock:
                    # One client at a time: versions then grow in the order in which Redis runs the writes.
                    writes = [self._commands(dice) for _ in range(min(count, dice.randrange(1, 20)))]
                    self._write_some(client, writes)
                    self.written += len(writes)
                count -= len(writes)
            except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"Redis stayed away: {error}") from error
                time.sleep(0.02)

    def _guarded_client(self, count: int, seed: int) -> None:
        try:
            self._client_loop(count, seed)
        except BaseException as error:
            self.errors.append(error)

    def write(self, count: int, clients: int = 2) -> list[threading.Thread]:
        """Start clients that make ``count`` writes in all; returns their threads."""
        threads = []
        for _ in range(clients):
            arguments = (count // clients, self.random.randrange(1 << 30))
            threads.append(threading.Thread(target=self._guarded_client, args=arguments))
        for thread in threads:
            thread.start()
        return threads

    # -- What must hold at the end ----------------------------------------------------------------------

    def settle(self, timeout: float = 90) -> None:
        """Wait until everything captured is in SQL."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                reason: object = "timeout"
                if hosts.wait(self.server, timeout):
                    return
            except (redis.ConnectionError, redis.ResponseError) as error:
                reason = error
            if time.monotonic() > deadline:
                log = self.server.log_text()[-3000:]
                raise AssertionError(f"not settled: {reason}\n{self.status()}\n{log}")
            time.sleep(0.1)

    def check(self) -> None:
        """The table equals Redis, no change was applied twice or out of order, none was refused."""
        assert not self.errors, self.errors
        self.settle()
        assert self.status()["targets"][0]["dead_letters"] == 0
        assert dict(_rows(self.url)) == dict(_hashes(self.server))
        self._check_history()

    def _check_history(self) -> None:
        """Each key's row passed through versions that only grow, none of them twice.

        A version may come twice for one row with another note: the two changes of HSET and HDEL in one MULTI.
        """
        last: dict[int, int] = {}
        seen: set[tuple[Any, ...]] = set()
        for row in run_sql(self.url, "SELECT person_id, version, note FROM history ORDER BY seq"):
            state = tuple(row)
            assert state not in seen, f"{state} was applied twice"
            assert state[1] >= last.get(state[0], 0), f"{state} came after version {last[state[0]]}"
            seen.add(state)
            last[state[0]] = state[1]


@contextlib.contextmanager
def running(world: W) -> Iterator[W]:
    """Start the world, and stop it in any case."""
    try:
        world.start()
        yield world
    finally:
        world.stop()


def _rows(url: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for row in run_sql(url, "SELECT person_id, version, note, age FROM persons"):
        yield row[0], tuple(row[1:])


def _hashes(server: RedisServer) -> Iterator[tuple[int, tuple[Any, ...]]]:
    with server.client(decode_responses=True) as client:
        for key in client.scan_iter("person:*"):
            image = client.hgetall(key)
            numbers = [None if image.get(name) is None else int(image[name]) for name in ("version", "age")]
            yield int(key.split(":")[1]), (numbers[0], image.get("note"), numbers[1])


def until(true: Callable[[], bool], timeout: float = 30, what: str = "it") -> None:
    """Poll until ``true()``; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.02)
