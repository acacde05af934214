"""Redis forgets writes that SQL has and clients were told of: by a torn AOF, or a late replica."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import redis

from tests.chaos.pair import environment, pair
from tests.chaos.waiting import FUNCTIONS
from tests.chaos.world import TABLES, URL_VARIABLE, until
from tests.integration.deploying import gearsync, write
from tests.integration.module.driving import aof_files
from tests.sanitizers import module_path
from tests.servers import RedisServer, free_port, run_sql

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def _prepare(url: str, tmp_path: Path) -> str:
    dialect = "mysql" if "mysql" in url else "sqlite" if "sqlite" in url else "postgresql"
    run_sql(url, TABLES[dialect][0])
    return write(tmp_path, FUNCTIONS.replace("TIMEOUT", "5000"))


def _ages(url: str) -> dict[str, str]:
    return {f"person:{row[0]}": str(row[1]) for row in run_sql(url, "SELECT person_id, age FROM persons")}


def _hashes(client: redis.Redis) -> dict[str, str]:
    found = {}
    for key in client.scan_iter("person:*"):
        age = client.hget(key, "age")
        # Deleted since the SCAN, while what was lost comes back.
        if age is not None:
            assert isinstance(age, bytes)
            found[key.decode()] = age.decode()
    return found


def _write_some(client: redis.Redis, numbers: range) -> None:
    for number in numbers:
        client.hincrby(f"person:{number % 7}", "age", 1)
        if number % 11 == 0:
            client.delete(f"person:{(number + 3) % 7}")


def test_what_the_aof_has_lost_comes_back(database_url: str, tmp_path: Path) -> None:
    """A power cut takes the end of the AOF; every write that a client was told of is there again."""
    source = _prepare(database_url, tmp_path)
    with environment({URL_VARIABLE: database_url}):
        options = ("--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble", "no")
        arguments = ("PYTHON", sys.executable)
        with RedisServer(*options, module=module_path(), module_arguments=arguments) as server:
            done = gearsync("deploy", source, "--redis", server.url)
            assert done.returncode == 0, done.stdout + done.stderr
            with server.client() as client:
                _write_some(client, range(30))
                kept = _newest(server).stat().st_size
                _write_some(client, range(30, 60))
                told = _hashes(client)
            server.kill9()
            assert _newest(server).stat().st_size > kept + 1000
            with _newest(server).open("r+b") as file:
                # Somewhere within a command.
                file.truncate(kept + 101)
            server.start()
            with server.client() as client:
                until(lambda: _hashes(client) == told, what="what clients were told")
                until(lambda: _ages(database_url) == told, what="the same in SQL")
                _write_some(client, range(60, 90))
                assert _hashes(client) == _ages(database_url)


def _newest(server: RedisServer) -> Path:
    return max(aof_files(server.directory), key=lambda path: path.stat().st_mtime)


def test_what_a_late_replica_never_got_comes_back(database_url: str, tmp_path: Path) -> None:
    """The replica that is promoted lacks writes that clients were told of; SQL has them."""
    source = _prepare(database_url, tmp_path)
    with pair({URL_VARIABLE: database_url}) as (primary, replica):
        done = gearsync("deploy", source, "--redis", primary.url)
        assert done.returncode == 0, done.stdout + done.stderr
        with primary.client() as client, replica.client() as reader:
            _write_some(client, range(20))
            until(lambda: _hashes(reader) == _hashes(client), what="the replica's state")
            # From now on it hears of nothing, and stays a replica.
            reader.replicaof("127.0.0.1", free_port())
            _write_some(client, range(20, 40))
            told = _hashes(client)
            assert _hashes(reader) != told
            primary.kill9()
            reader.replicaof("NO", "ONE")
            until(lambda: _hashes(reader) == told, what="what clients were told")
            _settled_write(reader, told)
            until(lambda: _hashes(reader) == _ages(database_url), what="the same in SQL")


def _settled_write(client: redis.Redis, told: dict[str, str]) -> None:
    """The first write after the promotion goes on where the old primary ended."""
    key = next(iter(told))
    deadline = time.monotonic() + 30
    while True:
        try:
            assert client.hincrby(key, "age", 1) == int(told[key]) + 1
            return
        except redis.ResponseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
