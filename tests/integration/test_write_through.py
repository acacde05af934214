"""Write-through: what SQL commits is in Redis, and nothing else, and the client knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import rows
from tests.integration.system import System
from tests.servers import run_sql

PERSONS = (
    "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20) DEFAULT 'nobody', age INTEGER, "
    "email VARCHAR(40) UNIQUE)"
)
FUNCTIONS = """
from __future__ import annotations

from connectors import Target
from gears import WriteThrough

first = Target("env:FIRST_DB_URL", name="first")
WriteThrough(keys="person:{id}", table="persons", columns=["name", "age", "email"], target=first)
"""


def persons(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT id, name, age, email FROM persons ORDER BY id")


def test_the_row_is_there_before_the_reply(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:
        assert client.hset("person:1", mapping={"name": "Ada", "age": 36, "other": "x"}) == 3
        assert persons(database_url) == [(1, "Ada", 36, None)]
        assert client.hgetall("person:1") == {b"name": b"Ada", b"age": b"36", b"other": b"x"}
        assert client.hset("person:1", "age", 37) == 0
        assert client.execute_command("HMSET", "person:2", "name", "Joe") is True
        assert client.hsetnx("person:2", "age", 7) == 1
        assert client.hsetnx("person:2", "age", 8) == 0
        assert client.hincrby("person:2", "age", 3) == 10
        assert client.hincrbyfloat("person:3", "age", 4.0) == 4.0
        assert persons(database_url) == [(1, "Ada", 37, None), (2, "Joe", 10, None), (3, "nobody", 4, None)]
        assert client.hdel("person:2", "name", "none") == 1
        assert client.hdel("person:3", "age") == 1
        assert not client.exists("person:3")
        assert persons(database_url) == [(1, "Ada", 37, None), (2, None, 10, None)]
        assert client.delete("person:2", "person:9", "elsewhere") == 1
        assert persons(database_url) == [(1, "Ada", 37, None)]
        assert client.expire("person:1", 100) == 1
        assert client.expire("person:1", -1) == 1
        assert persons(database_url) == []


def test_a_refusal_is_the_client_s_error(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:
        client.hset("person:1", mapping={"name": "Ada", "email": "ada@x"})
        with pytest.raises(redis.ResponseError, match=r"THROUGH person:2 is not written: .*email"):
            client.hset("person:2", mapping={"name": "Eve", "email": "ada@x"})
        with pytest.raises(redis.ResponseError, match="column age"):
            client.hset("person:1", "age", "old")
        with pytest.raises(redis.ResponseError, match="column id"):
            client.hset("person:x", "age", "1")
        assert client.hgetall("person:1") == {b"name": b"Ada", b"email": b"ada@x"}
        assert client.keys("person:*") == [b"person:1"]
        assert persons(database_url) == [(1, "Ada", None, "ada@x")]
