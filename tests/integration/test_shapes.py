"""Rows of other shapes than one column a field: one system with a function for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import rows
from tests.integration.system import System
from tests.servers import run_sql

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="shapes")
first = Target("env:FIRST_DB_URL", name="first")

WriteBehind(
    keys="doc:{id}", table="docs", columns=["name"], target=first, rest="others",
    constants={"tenant": "eu"}, computed={"label": "{name} of {id}", "at": "{@time}"},
)
WriteBehind(keys="order:{id}", table="lines", columns=["total"], target=first)
WriteBehind(keys="order:{id}", table="orders", columns=["state"], target=first)
"""
TABLES = (
    "CREATE TABLE docs "
    "(id INTEGER PRIMARY KEY, name TEXT, others JSON, tenant TEXT, label TEXT, at DATETIME)",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT)",
    "CREATE TABLE lines (id INTEGER PRIMARY KEY REFERENCES orders, total INTEGER)",
)


class Shapes:
    """The system, and the shortest ways to use it."""

    def __init__(self, system: System, client: redis.Redis, url: str) -> None:
        self.system = system
        self.client = client
        self.url = url

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query when all that was written is in SQL."""
        self.system.wait()
        return rows(self.url, statement)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes]:
    folder: Path = tmp_path_factory.mktemp("shapes")
    url = f"sqlite:///{folder / 'target.db'}"
    for statement in TABLES:
        run_sql(url, statement)
    system = System(folder, FUNCTIONS, {"FIRST_DB_URL": url})
    with system as client:
        yield Shapes(system, client, url)


def test_a_hash_with_any_fields(shapes: Shapes) -> None:
    shapes.client.hset("doc:1", mapping={"name": "Ada", "b": "2", "a": "ä"})
    found = shapes.rows("SELECT name, others, tenant, label, at FROM docs")[0]
    assert found[:4] == ("Ada", '{"a":"ä","b":"2"}', "eu", "Ada of 1")
    assert found[4] > "2026"
    shapes.client.hdel("doc:1", "a")
    shapes.client.hset("doc:1", "c", "3")
    shapes.client.hset("doc:2", "raw", b"\xff")
    documents = shapes.rows("SELECT id, others FROM docs")
    assert [(number, json.loads(others)) for number, others in documents] == [(1, {"b": "2", "c": "3"})]
    letter = next(each for each in shapes.system.letters() if each["key"] == "doc:2")
    assert "the field raw is no UTF-8 text" in letter["reason"]


def test_several_tables_of_one_key(shapes: Shapes) -> None:
    """The parent's row is there before the child's, though it is declared after it, and goes after it."""
    shapes.client.hset("order:1", mapping={"state": "open", "total": 7})
    shapes.client.hset("order:2", mapping={"state": "open", "total": "many"})
    both = "SELECT id, state, total FROM orders LEFT JOIN lines USING (id) ORDER BY id"
    assert shapes.rows(both) == [(1, "open", 7), (2, "open", None)]
    assert [each["table"] for each in shapes.system.letters() if each["key"] == "order:2"] == ["lines"]
    shapes.client.delete("order:1", "order:2")
    assert shapes.rows("SELECT 1 FROM orders UNION ALL SELECT 1 FROM lines") == []
    assert len([each for each in shapes.system.letters() if each["key"].startswith("order")]) == 1
