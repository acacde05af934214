"""Rows of other shapes than one column a field: one system with a function for each."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.comparing import named, verify
from tests.integration.deploying import eventually, gearsync, gearsync_json, rows, write
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
WriteBehind(keys="soft:{id}", table="soft", columns=["name", "city"], target=first, on_delete="mark")
WriteBehind(keys="soft:{id}", table="history", columns=["name", "city"], target=first, history=True)
"""
THROUGH = (
    FUNCTIONS.split("WriteBehind(")[0]
    .replace("WriteBehind", "ReadThrough, WriteThrough")
    .replace("shapes", "through")
    + """
WriteThrough(
    keys="acc:{id}", table="accounts", columns=["owner"], target=first, on_delete="mark", on_expire="keep",
    constants={"level": 3}, computed={"at": "{@time}"},
)
WriteThrough(
    keys="acc:{id}", table="account_history", columns=["owner"], target=first, history=True, on_expire="keep"
)
ReadThrough(keys="acc:{id}", table="accounts", columns=["owner"], target=first, deleted_at="deleted_at")
"""
)
HISTORY = (
    "CREATE TABLE {} (id INTEGER NOT NULL, name TEXT, city TEXT, owner TEXT, change_lane VARCHAR(255), "
    "change_epoch BIGINT, change_ms BIGINT, change_seq BIGINT, change_op TEXT, changed_at BIGINT, "
    "PRIMARY KEY (change_lane, change_epoch, change_ms, change_seq))"
)
TABLES = (
    "CREATE TABLE docs "
    "(id INTEGER PRIMARY KEY, name TEXT, others JSON, tenant TEXT, label TEXT, at DATETIME)",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT)",
    "CREATE TABLE lines (id INTEGER PRIMARY KEY REFERENCES orders, total INTEGER)",
    "CREATE TABLE soft (id INTEGER PRIMARY KEY, name TEXT, city TEXT DEFAULT 'Rome', deleted_at DATETIME)",
    "CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT, level INT, at BIGINT, deleted_at BIGINT)",
    HISTORY.format("history"),
    HISTORY.format("account_history"),
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


def test_several_tables_of_one_key_are_compared(shapes: Shapes) -> None:
    shapes.client.hset("order:8", mapping={"state": "open", "total": 7})
    shapes.client.hset("order:9", mapping={"state": "open", "total": 7})
    shapes.system.wait()
    run_sql(shapes.url, "UPDATE orders SET state = 'sent' WHERE id = 8")
    run_sql(shapes.url, "DELETE FROM lines WHERE id = 9")
    found = verify(shapes.system, code=1)
    assert named(found["orders"])["order:8"] == ("differs", ["state"])
    assert named(found["lines"])["order:9"] == ("missing", [])
    assert "order:9" not in named(found["orders"])
    assert "history" not in found
    verify(shapes.system, "--repair", code=None)
    repaired = verify(shapes.system, code=None)
    assert not {"order:8", "order:9"} & {*named(repaired["orders"]), *named(repaired["lines"])}
    shapes.client.delete("order:8", "order:9")
    with shapes.system.environment():
        refused = gearsync("verify", shapes.system.functions, "--function", "history")
    assert (refused.returncode, "history is a history, and is not compared" in refused.stderr) == (1, True)


def test_rows_that_are_marked_and_their_history(shapes: Shapes) -> None:
    client = shapes.client
    client.hset("soft:1", mapping={"name": "Ada", "city": "London"})
    client.hset("soft:1", "name", "Eve")
    client.delete("soft:1", "soft:2")
    assert shapes.rows("SELECT id, name, city FROM soft WHERE deleted_at > '2026'") == [(1, "Eve", "London")]
    client.hset("soft:1", "name", "Joe")
    assert shapes.rows("SELECT * FROM soft") == [(1, "Joe", "Rome", None)]
    told = "SELECT id, change_op, name, city FROM history ORDER BY change_epoch, change_ms, change_seq"
    assert shapes.rows(told) == [
        (1, "write", "Ada", "London"),
        (1, "write", "Eve", "London"),
        (1, "delete", None, None),
        (1, "write", "Joe", None),
    ]


def test_marked_rows_are_none_for_verify(shapes: Shapes) -> None:
    shapes.client.hset("soft:1", "name", "Joe")
    shapes.client.hset("soft:3", "name", "Eve")
    shapes.client.delete("soft:3")
    shapes.rows("SELECT 1")
    with shapes.system.environment():
        command = ("verify", shapes.system.functions, "--redis", shapes.system.server.url)
        [found] = gearsync_json(*command, "--function", "soft")
        run_sql(shapes.url, "UPDATE soft SET deleted_at = '2026-01-01' WHERE id = 1")
        [marked] = gearsync_json(*command, "--function", "soft", code=1)
    assert (found["missing"], found["extra"], found["differs"]) == (0, 0, 0)
    assert (marked["missing"], marked["extra"], marked["differs"]) == (0, 0, 1)
    shapes.client.hset("soft:1", "name", "Joe again")


def test_a_history_has_each_change_once_though_workers_are_killed(shapes: Shapes) -> None:
    """Two workers die behind a burst of changes, of which some are in SQL by then and some are not."""
    shapes.rows("SELECT 1")
    killed = {0}
    for start in (1, 1501, 3001):
        with shapes.client.pipeline(transaction=False) as pipe:
            for number in range(start, start + 1500):
                pipe.hset(f"soft:{number % 7 + 100}", "name", number)
            pipe.execute()
        if start < 3000:
            eventually(lambda: shapes.system.status()["worker"]["pid"] not in killed)
            pid = shapes.system.status()["worker"]["pid"]
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
    told = "SELECT id, name FROM history WHERE id >= 100 ORDER BY change_epoch, change_ms, change_seq"
    assert shapes.rows(told) == [(number % 7 + 100, str(number)) for number in range(1, 4501)]


def test_write_through(shapes: Shapes, tmp_path: Path) -> None:
    with shapes.system.environment():
        done = gearsync("deploy", write(tmp_path, THROUGH), "--redis", shapes.system.server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    client = shapes.client
    client.hset("acc:1", "owner", "Ada")
    at = rows(shapes.url, "SELECT at FROM accounts WHERE id = 1 AND owner = 'Ada' AND level = 3")[0][0]
    assert client.delete("acc:1") == 1
    since = rows(shapes.url, "SELECT deleted_at FROM accounts")[0][0]
    assert 1_700_000_000_000 < at <= since
    assert client.hget("acc:1", "owner") is None, "the marked row was read"
    client.hset("acc:1", "owner", "Eve")
    assert rows(shapes.url, "SELECT owner, deleted_at FROM accounts") == [("Eve", None)]
    told = "SELECT change_op, owner, changed_at FROM account_history ORDER BY change_ms, change_seq"
    assert rows(shapes.url, told)[:2] == [("write", "Ada", at), ("delete", None, since)]
    assert len(rows(shapes.url, told)) == 3
