"""The patterns together: one mapping that is read through and written through."""

from __future__ import annotations

import concurrent.futures
import random
from pathlib import Path

import redis

from tests.integration.deploying import eventually, rows
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
PEOPLE = 6


def test_read_through_with_write_through(database_url: str, tmp_path: Path) -> None:
    """A hash that has expired is read, or written, from where its row is; a row that is deleted stays so."""
    run_sql(database_url, PERSONS)
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:
        assert client.hgetall("person:1") == {b"name": b"Ada", b"age": b"36"}
        client.pexpire("person:1", 1)
        eventually(lambda: b"person:1" not in client.keys("person:*"))
        assert client.hincrby("person:1", "age", 1) == 37
        assert client.hgetall("person:1") == {b"name": b"Ada", b"age": b"37"}
        client.pexpire("person:1", 1)
        eventually(lambda: b"person:1" not in client.keys("person:*"))
        assert client.delete("person:1") == 0
        assert rows(database_url, "SELECT * FROM persons") == []
        assert client.hgetall("person:1") == {}


def test_the_races_between_them(database_url: str, tmp_path: Path) -> None:
    """Clients count while keys expire under their hands: no count is lost, and no old row comes back."""
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:

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
