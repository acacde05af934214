"""The patterns together: one mapping that is read through and written through."""

from __future__ import annotations

import concurrent.futures
import random
from pathlib import Path

import pytest
import redis

from tests.integration.deploying import eventually, rows
from tests.integration.module.reading import hash_of
from tests.integration.system import System
from tests.servers import run_sql

PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20), age INTEGER)"
FUNCTIONS = """
from __future__ import annotations

from connectors import Target
from gears import ReadThrough, WriteThrough

first = Target("env:FIRST_DB_URL", name="first")
WriteThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, on_expire="keep")
ReadThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, missing_ms=50)
"""
BEHIND = """
from __future__ import annotations

from connectors import Target
from gears import WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
WriteBehind(keys="person:{id}", table="persons", columns=["name", "age"], target=first, on_expire="keep")
"""
PEOPLE = 6


def test_read_through_with_write_through(database_url: str, tmp_path: Path) -> None:
    """A hash that has expired is read, or written, from where its row is; a row that is deleted stays so."""
    run_sql(database_url, PERSONS)
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:
        assert hash_of(client, "person:1") == {b"name": b"Ada", b"age": b"36"}
        client.pexpire("person:1", 25)
        eventually(lambda: b"person:1" not in client.keys("person:*"))
        assert client.hincrby("person:1", "age", 1) == 37
        assert hash_of(client, "person:1") == {b"name": b"Ada", b"age": b"37"}
        client.pexpire("person:1", 25)
        eventually(lambda: b"person:1" not in client.keys("person:*"))
        assert client.delete("person:1") == 0
        assert rows(database_url, "SELECT * FROM persons") == []
        assert hash_of(client, "person:1") == {}


@pytest.mark.one_database
def test_the_races_between_them(database_url: str, tmp_path: Path) -> None:
    """Clients count while keys expire under their hands: no count is lost, and no old row comes back."""
    run_sql(database_url, PERSONS)
    # On a slow machine even PEXPIRE 1 can come too late, and is a deletion.
    functions = FUNCTIONS.replace('on_expire="keep"', 'on_expire="keep", on_delete="keep"')
    with System(tmp_path, functions, {"FIRST_DB_URL": database_url}) as client:

        def work(seed: int) -> list[int]:
            dice, counts = random.Random(seed), [0] * PEOPLE
            own = redis.Redis(connection_pool=client.connection_pool)
            for _ in range(60):
                person = dice.randrange(PEOPLE)
                kind = dice.random()
                if kind < 0.5:
                    own.hincrby(f"person:{person}", "age", 1)
                    counts[person] += 1
                elif kind < 0.75:
                    own.hgetall(f"person:{person}")
                else:
                    own.pexpire(f"person:{person}", 1)
            return counts

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            counts = [sum(each) for each in zip(*pool.map(work, range(8)))]
        assert [row[0] for row in rows(database_url, "SELECT age FROM persons ORDER BY id")] == counts
        assert [int(client.hget(f"person:{person}", "age") or 0) for person in range(PEOPLE)] == counts


def test_cache_aside(database_url: str, tmp_path: Path) -> None:
    """A client of its own accord: no function minds, and nothing of it is captured twice."""
    run_sql(database_url, PERSONS)
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
    system = System(tmp_path, BEHIND, {"FIRST_DB_URL": database_url})
    with system as client:
        assert hash_of(client, "person:1") == {}
        [(name, age)] = rows(database_url, "SELECT name, age FROM persons WHERE id = 1")
        client.hset("person:1", mapping={"name": name, "age": age})
        system.wait()
        assert rows(database_url, "SELECT * FROM persons") == [(1, "Ada", 36)]


@pytest.mark.one_database
def test_write_around_by_time(database_url: str, tmp_path: Path) -> None:
    """What somebody changes in SQL is seen when the loaded hash has ended."""
    run_sql(database_url, PERSONS)
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
    functions = FUNCTIONS.replace("missing_ms=50", "ttl=1")
    with System(tmp_path, functions, {"FIRST_DB_URL": database_url}) as client:
        assert client.hget("person:1", "age") == b"36"
        run_sql(database_url, "UPDATE persons SET age = 37")
        eventually(lambda: client.hget("person:1", "age") == b"37")
