"""One function paused of several: its changes are held back, all others go on, and order is kept."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.hosts.base import Pause
from deploy.hosts.module import ModuleHost
from deploy.output import CommandError
from deploy.pausing import held
from deploy.reaching import shards
from gears.declaring import config
from tests.integration.deploying import eventually, gearsync, gearsync_json, rows, write
from tests.integration.system import System
from tests.servers import run_sql

FUNCTIONS = """
from gears import ReadThrough, WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="shop", lanes=2, batch=50)
shop = Target("env:SHOP_DB_URL", name="shop")
WriteBehind(keys="order:{id}", table="orders", columns={"v": "v"}, target=shop)
WriteBehind(keys="order:{id}", table="copies", columns={"v": "v"}, target=shop)
WriteBehind(keys="item:{id}", table="items", columns={"v": "v"}, target=shop)
ReadThrough(keys="order:{id}", table="orders", columns={"v": "v"}, target=shop, name="lookups")
WriteBehind(keys="tag:{id}", table="tags", columns={"member": "tag"}, target=shop, type="set", name="tags")
"""

SEEN = "CREATE TABLE seen (at INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR(64), v VARCHAR(64))"
"""Every state that a row of ``orders`` has been in, in order."""


class World:
    """Redis with a worker, and the SQLite file that it writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/shop.sqlite"
        for table in ("orders", "copies", "items"):
            run_sql(self.url, f"CREATE TABLE {table} (id VARCHAR(64) PRIMARY KEY, v VARCHAR(64))")
        run_sql(self.url, "CREATE TABLE tags (id VARCHAR(64), tag VARCHAR(64), PRIMARY KEY (id, tag))")
        run_sql(self.url, SEEN)
        for event in ("INSERT", "UPDATE"):
            run_sql(
                self.url,
                f"CREATE TRIGGER on_{event} AFTER {event} ON orders BEGIN "
                "INSERT INTO seen (id, v) VALUES (NEW.id, NEW.v); END",
            )
        always = ("--appendonly", "yes", "--appendfsync", "always")
        self.system = System(folder, FUNCTIONS, {"SHOP_DB_URL": self.url}, options=always)

    @property
    def client(self) -> redis.Redis:
        return self.system.client

    def run(self, *words: str, code: int = 0) -> str:
        done = gearsync(*words, "--redis", self.system.server.url)
        assert done.returncode == code, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def pause(self, function: str = "orders") -> None:
        with shards.connect(self.system.server.url) as found:
            held.pause(found, "shop", [function], Pause("somebody", ""))
            assert not held.wait_until_held(found, "shop", [function], 30, lambda _: None)

    def resume(self, function: str = "orders") -> None:
        self.client.execute_command("GEARSYNC.RESUME", "shop", "FUNCTION", function)
        eventually(lambda: "held" not in self.function(function))

    def function(self, name: str = "orders") -> dict[str, Any]:
        found: dict[str, Any] = next(f for f in self.system.status()["functions"] if f["name"] == name)
        return found

    def table(self, name: str) -> dict[str, Any]:
        return dict(rows(self.url, f"SELECT id, v FROM {name}"))

    def hashes(self, kind: str = "order") -> dict[str, str]:
        keys = list(self.client.scan_iter(f"{kind}:*"))
        return {k.decode().split(":")[1]: self.client.hget(k, "v").decode() for k in keys}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("held"))
    with made.system:
        yield made


def test_one_function_waits_and_others_go_on(world: World) -> None:
    client = world.client
    client.hset("order:1", "v", "before")
    world.system.wait()
    words = "--function", "orders", "--by", "Ünal", "--reason", "a new index"
    told = world.run("pause", "shop", *words)
    assert "its changes wait until `gearsync resume shop --function orders`" in told
    client.hset("order:1", "v", "meanwhile")
    client.hset("order:2", "v", "gone")
    client.delete("order:2")
    client.hset("item:1", "v", "i")
    assert client.execute_command("GEARSYNC.WAIT", 20_000, "KEY", "item:1") == b"OK"
    eventually(lambda: world.table("copies") == {"1": "meanwhile"})
    # A barrier tells at once, and counts only what is held of its own key.
    with pytest.raises(redis.ResponseError, match="PAUSED"):
        client.execute_command("GEARSYNC.WAIT", 20_000)
    assert world.table("orders") == {"1": "before"}
    assert world.function()["held"] == 3
    # Other keys than those that wait are read through; SQL has an older row of one that is held.
    client.delete("order:1")
    with pytest.raises(redis.ResponseError, match="held back"):
        client.hget("order:1", "v")
    client.hset("order:1", "v", "after")
    shown = world.run("status")
    assert "orders is paused since 20" in shown and "by Ünal: a new index" in shown and "held back" in shown
    late = world.run("wait", "--timeout", "20", code=1)
    assert "function orders of shop" in late and "held back until gearsync resume" in late
    with world.system.environment():
        world.system.server.restart()
    assert world.function()["held"] == 5 and world.function()["paused"]["reason"] == "a new index"
    refused = world.run("undeploy", "shop", code=1)
    assert "a function of the deployment is paused" in refused
    world.run("resume", world.system.functions, "--function", "orders")
    eventually(lambda: "held" not in world.function())
    world.system.wait()
    assert world.table("orders") == world.table("copies") == {"1": "after"}
    assert rows(world.url, "SELECT stream FROM gearsync_checkpoint WHERE stream LIKE '%:h%'") == []


def test_an_upgrade_applies_what_is_held_by_the_rules_it_was_captured_by(world: World) -> None:
    host = ModuleHost(world.client)
    world.pause()
    world.client.hset("order:1", mapping={"v": "old", "w": "-"})
    changed = write(world.folder, FUNCTIONS.replace('"v": "v"', '"w": "v"', 1), "other.py")
    world.run("deploy", changed, "--offline", "--yes")
    world.client.hset("order:2", mapping={"v": "-", "w": "new"})
    for text, told in (
        (FUNCTIONS.replace('table="orders"', 'table="orders", name="renamed"', 1), "leaves it out"),
        (FUNCTIONS.replace("lanes=2", "lanes=3"), "number of lanes"),
        (FUNCTIONS.replace("order:{", "orders:{", 1), "gives it other keys"),
    ):
        refused = host.refusal(config.load(write(world.folder, text, "no.py")))
        assert told in refused and "resume it first" in refused
    eventually(lambda: world.table("copies").get("2") == "-")
    world.resume()
    world.system.wait()
    assert world.table("orders") == {"1": "old", "2": "new"}
    host.deploy(dataclasses.replace(config.load(world.system.functions), version=3))


def test_what_can_not_be_paused_is_told(world: World) -> None:
    for function, told in (
        ("nothing", "has no function nothing"),
        ("lookups", "brings nothing to SQL"),
        ("tags", "only when they are applied"),
    ):
        with pytest.raises(CommandError, match=told):
            world.pause(function)
    with shards.connect(world.system.server.url) as found:
        with pytest.raises(CommandError, match="has no function nothing"):
            held.resume(found, "shop", ["nothing"])
    assert not any(each.get("paused") for each in world.system.status()["functions"])


def test_a_table_that_is_broken_stops_the_others_no_longer(world: World) -> None:
    run_sql(world.url, "ALTER TABLE copies RENAME TO away")
    world.client.hset("order:1", "v", "x")
    world.system.until_waiting("shop", "copies")
    world.pause("copies")
    eventually(lambda: world.table("orders").get("1") == "x")
    run_sql(world.url, "ALTER TABLE away RENAME TO copies")
    world.resume("copies")
    world.system.wait()
    assert world.table("copies")["1"] == "x"


def test_verify_leaves_what_is_held_undecided(world: World) -> None:
    world.pause()
    world.client.hset("order:1", "v", "held")
    eventually(lambda: world.function()["held"] > 0)
    words = "verify", world.system.functions, "--function", "orders", "--repair"
    with world.system.environment():
        found = gearsync_json(*words, "--redis", world.system.server.url, code=1)[0]
    assert (found["undecided"], found["repaired"]) == (1, 0), found
    assert any("held back" in each for each in found["notes"])
    world.resume()


def test_pause_and_resume_under_load_keep_order_and_lose_nothing(world: World) -> None:
    world.client.flushall()
    run_sql(world.url, "DELETE FROM orders")
    run_sql(world.url, "DELETE FROM copies")
    run_sql(world.url, "DELETE FROM seen")
    over = threading.Event()

    def work() -> None:
        with world.system.server.client() as client:
            number = 0
            while not over.is_set():
                with client.pipeline(transaction=False) as pipe:
                    for _ in range(20):
                        number += 1
                        pipe.hset(f"order:{number % 7}", "v", str(number))
                    pipe.execute()

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(2):
            world.client.execute_command("GEARSYNC.PAUSE", "shop", "me", "", "FUNCTION", "orders")
            eventually(lambda: world.function()["held"] > 100)
            os.kill(world.system.status()["worker"]["pid"], signal.SIGKILL)
            world.resume()
    finally:
        over.set()
        writer.join()
    world.system.wait()
    assert world.table("orders") == world.table("copies") == world.hashes()
    assert_in_order(world.url)


def assert_in_order(url: str) -> None:
    """No row has gone back to an older state."""
    last: dict[str, int] = {}
    for key, value in rows(url, "SELECT id, v FROM seen ORDER BY at"):
        assert int(value) >= last.get(key, 0), (key, value, last)
        last[key] = int(value)
