"""A target paused alone, and a function that has one of its own, on both hosts: all others go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from deploy import cli
from tests.hosts import HOSTS
from tests.integration.deploying import eventually, rows, write
from tests.integration.system import System
from tests.servers import run_sql

#: Two targets, which are one database.
FUNCTIONS = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="shop")
shop = Target("env:SHOP_DB_URL", name="shop")
own = Target("env:SHOP_DB_URL", name="own")
WriteBehind(keys="order:{id}", table="orders", columns={"v": "v"}, target=shop)
WriteBehind(keys="order:{id}", table="copies", columns={"v": "v"}, target=shop)
WriteBehind(keys="item:{id}", table="items", columns={"v": "v"}, target=own)
"""


class World:
    """Redis with a worker, and the SQLite file that it writes to."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.host = host
        self.url = f"sqlite:///{folder}/shop.sqlite"
        for table in ("orders", "copies", "items"):
            run_sql(self.url, f"CREATE TABLE {table} (id VARCHAR(64) PRIMARY KEY, v VARCHAR(64))")
        always = ("--appendonly", "yes", "--appendfsync", "always")
        self.system = System(folder, FUNCTIONS, {"SHOP_DB_URL": self.url}, options=always, host=host)

    @property
    def client(self) -> redis.Redis:
        return self.system.client

    def run(self, *words: str, code: int = 0) -> str:
        # In this process: so many of them would take long to start.
        done = CliRunner().invoke(cli.group, [*words, "--redis", self.system.server.url])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    def table(self, name: str) -> dict[str, Any]:
        return dict(rows(self.url, f"SELECT id, v FROM {name}"))

    def paused(self) -> list[str]:
        return [each["name"] for each in self.system.status()["targets"] if "paused" in each]


@pytest.fixture(scope="module", params=HOSTS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("paused"), request.param)
    with made.system:
        yield made


def test_a_function_with_a_target_of_its_own_waits_through_a_restart_and_an_upgrade(world: World) -> None:
    client = world.client
    client.hset("item:1", "v", "before")
    world.system.wait()
    told = world.run("pause", "shop", "--function", "items", "--by", "Ünal", "--reason", "a new index")
    assert "items of shop is paused: its changes wait until `gearsync resume shop --function items`" in told
    client.hset("order:1", "v", "1")
    client.hset("item:1", "v", "meanwhile")
    client.hset("item:2", "v", "gone")
    client.delete("item:2")
    eventually(lambda: world.table("orders") == {"1": "1"} and world.table("copies") == {"1": "1"})
    late = world.run("wait", "--timeout", "30", code=1)
    assert (
        "target own of shop on" in late and "3 changes wait until gearsync resume shop --target own" in late
    )
    assert "after 30 s" not in late and "Try: gearsync resume what is paused" in late
    assert "resume it first" in world.run("undeploy", "shop", code=1)
    with world.system.environment():
        world.system.server.restart()
        eventually(lambda: world.paused() == ["own"])
        newer = write(world.folder, FUNCTIONS.replace('name="shop")', 'name="shop", batch=7)', 1), "next.py")
        world.run("deploy", newer, "--yes")
    assert (world.system.status()["version"], world.paused()) == (2, ["own"])
    client.hset("order:2", "v", "2")
    eventually(lambda: "2" in world.table("orders"))
    shown = world.run("status")
    assert "target own is paused since" in shown and "by Ünal: a new index; 3 changes wait" in shown
    figures = world.run("metrics", "--once")
    paused = re.findall(r'gearsync_target_paused\{.*?target="(\w+)"\} (\S+)', figures)
    assert dict(paused) == {"shop": "0.0", "own": "1.0"}
    assert world.table("items") == {"1": "before"}
    assert "items of shop goes on" in world.run("resume", "shop", "--function", "items")
    world.system.wait()
    assert world.table("items") == {"1": "meanwhile"} and world.paused() == []


def test_targets_are_named(world: World) -> None:
    told = world.run("pause", "shop", "--target", "own", "--target", "shop", "--by", "me", "--json")
    assert json.loads(told[told.index("{") : told.rindex("}") + 1]) == {
        "deployment": "shop",
        "targets": ["own", "shop"],
        "state": "paused",
        "by": "me",
        "reason": "",
    }
    for key in ("order:3", "item:3"):
        world.client.hset(key, "v", "3")
    assert "waits with all that goes to its target" in world.run(
        "resume", "shop", "--function", "orders", code=1
    )
    assert "target own of shop goes on" in world.run("resume", "shop", "--target", "own")
    eventually(lambda: "3" in world.table("items"))
    assert "3" not in world.table("orders") and world.paused() == ["shop"]
    assert "its target own is paused" not in world.run("status")
    world.run("resume", "shop", "--target", "shop")
    world.system.wait()
    assert world.table("orders")["3"] == "3"


def test_what_is_refused(world: World) -> None:
    assert "no target nothing" in world.run("pause", "shop", "--target", "nothing", code=1)
    world.run("pause", "shop", "--target", "own", "--function", "items", code=2)
    if world.host == "redisgears":
        told = world.run("pause", "shop", "--function", "orders", code=1)
        assert "a target of its own" in told and "gearsync pause shop --target shop" in told
    assert world.paused() == []
