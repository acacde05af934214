"""SQL and Redis agree at the end, whoever wrote what where, while workers and Redis are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from tests import hosts
from tests.form import SOAK
from tests.integration.deploying import eventually, rows
from tests.integration.system import System
from tests.integration.test_write_around import BEHIND, PERSONS, REFRESH, begun, prepare
from tests.servers import run_sql

SECONDS = 300.0 if SOAK else 8.0
#: Rows of SQL writers and of clients of Redis: the middle third belongs to both.
SQL_KEYS, REDIS_KEYS = range(200), range(100, 300)

pytestmark = [pytest.mark.chaos, pytest.mark.one_database, pytest.mark.timeout(SECONDS * 2 + 240)]


class Writers:
    """Threads that write until the end, and what went wrong in them."""

    def __init__(self, url: str, system: System) -> None:
        self.url = url
        self.system = system
        self.end = threading.Event()
        self.errors: list[BaseException] = []
        self.committed = self.written = 0
        self.threads = [
            threading.Thread(target=self._guarded, args=(write, seed))
            for seed, write in enumerate((self._sql, self._sql, self._redis, self._redis))
        ]

    def run(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Write for so long, and do something again and again meanwhile."""
        for thread in self.threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.end.wait(min(1.5, seconds))
            meanwhile()
        self.end.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors

    def _guarded(self, write: Callable[[random.Random], None], seed: int) -> None:
        try:
            write(random.Random(seed))
        except BaseException as error:
            self.errors.append(error)

    def _sql(self, dice: random.Random) -> None:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        while not self.end.is_set():
            # Who is refused by a lock or a double key has written nothing: that is a rollback like any other.
            with contextlib.suppress(sa.exc.DBAPIError, ZeroDivisionError), engine.begin() as connection:
                for _ in range(dice.randrange(1, 6)):
                    connection.exec_driver_sql(_statement(dice))
                self.end.wait(dice.choice([0, 0, 0.01, 0.2]))
                if dice.random() < 0.2:
                    raise ZeroDivisionError
                self.committed += 1
            self.end.wait(0.01)

    def _redis(self, dice: random.Random) -> None:
        client = self.system.server.client(socket_timeout=10)
        while not self.end.is_set():
            key = f"person:{dice.choice(REDIS_KEYS)}"
            # A refused write-through has written nothing.
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
                if dice.random() < 0.2:
                    client.delete(key)
                else:
                    client.hset(key, mapping={"name": f"r{dice.randrange(10**6)}", "age": dice.randrange(90)})
                self.written += 1
            self.end.wait(0.004)


def _statement(dice: random.Random) -> str:
    number, other = dice.choice(SQL_KEYS), dice.choice(SQL_KEYS)
    kind = dice.random()
    if kind < 0.35:
        return f"UPDATE persons SET name = 's{dice.randrange(10**6)}' WHERE id = {number}"
    if kind < 0.6:
        return f"INSERT INTO persons VALUES ({number}, 's{dice.randrange(10**6)}', {dice.randrange(90)})"
    if kind < 0.8:
        return f"DELETE FROM persons WHERE id = {number}"
    if kind < 0.9:
        return f"UPDATE persons SET id = {other} WHERE id = {number}"
    return f"UPDATE persons SET age = age + 1 WHERE id BETWEEN {number} AND {number + 20}"


def in_sql(url: str) -> dict[int, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in rows(url, "SELECT id, name, age FROM persons")}


def in_redis(client: redis.Redis) -> dict[int, tuple[Any, ...]]:
    found = {}
    for key in client.scan_iter("person:*", count=1000):
        image: Any = client.hgetall(key)
        if image:
            found[int(key.split(b":")[1])] = (image[b"name"].decode(), int(image[b"age"]))
    return found


@pytest.mark.parametrize("kind", ["nothing", "worker", "redis", "write-through"])
def test_sql_and_redis_agree_at_the_end(kind: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    prepare(database_url)
    options = ("--appendonly", "yes", "--appendfsync", "always")
    functions = REFRESH + BEHIND
    if kind == "write-through":
        functions = functions.replace("WriteBehind", "WriteThrough")
    system = System(tmp_path, functions, {"FIRST_DB_URL": database_url}, options=options)
    with system as client:
        eventually(lambda: begun(system))

        def kill() -> None:
            if kind == "redis":
                with system.environment():
                    system.server.restart()
            elif kind == "worker":
                with contextlib.suppress(redis.ConnectionError, ProcessLookupError, redis.BusyLoadingError):
                    pid = int(system.status()["worker"]["pid"])
                    if pid > 0:
                        os.kill(pid, signal.SIGKILL)

        writers = Writers(database_url, system)
        writers.run(SECONDS, kill)
        assert writers.committed and writers.written
        assert hosts.wait(system.server, 90), system.server.log_text()[-3000:]
        assert system.letters() == []
        try:
            eventually(lambda: in_sql(database_url) == in_redis(client), 60)
        except AssertionError:
            ours, theirs = in_sql(database_url), in_redis(client)
            differ = {each: (ours.get(each), theirs.get(each)) for each in ours.keys() | theirs.keys()}
            wrong = {each: pair for each, pair in differ.items() if pair[0] != pair[1]}
            raise AssertionError(
                f"SQL and Redis differ in {wrong}\n{system.server.log_text()[-3000:]}"
            ) from None
