"""In a cluster whose slots move: a target that is paused alone, and dead letters that are tried again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.integration.deploying import ROOT, eventually, gearsync, rows, write
from tests.integration.module.driving import deployment_status, entries, unpacked
from tests.sanitizers import module_path
from tests.servers import RedisServer, run_sql

#: Two targets that are one database.
SHOP = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="shop")
shop, own = (Target("env:SHOP_DB_URL", name=name) for name in ("shop", "own"))
WriteBehind(keys="item:{id}", table="copies", columns={"v": "v"}, target=shop)
WriteBehind(keys="item:{id}", table="items", columns={"v": "v"}, target=own)
"""
WHOLE = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="pays", transactions="whole")
pays = Target("env:SHOP_DB_URL", name="pays")
WriteBehind(keys="pay:{purse}:{id}", table="pays", columns={"v": "v"}, target=pays)
"""
STATEMENTS = (
    "CREATE TABLE items (id VARCHAR(64) PRIMARY KEY, v VARCHAR(64))",
    "CREATE TABLE copies (id VARCHAR(64) PRIMARY KEY, v VARCHAR(64))",
    "CREATE TABLE pays (purse VARCHAR(64), id VARCHAR(64), v VARCHAR(64), PRIMARY KEY (purse, id))",
    "CREATE TABLE seen (at INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR(64), v VARCHAR(64))",
    *(
        f"CREATE TRIGGER on_{event} AFTER {event} ON items BEGIN "
        "INSERT INTO seen (id, v) VALUES (NEW.id, NEW.v); END"
        for event in ("INSERT", "UPDATE")
    ),
    "CREATE TRIGGER refusing BEFORE INSERT ON pays WHEN NEW.v = 'refused' BEGIN "
    "SELECT RAISE(ABORT, 'it is refused'); END",
)


def node(*options: str) -> RedisServer:
    return RedisServer(*options, module=module_path(), module_arguments=("PYTHON", sys.executable))


class World:
    """Two shards with their workers, and the SQLite file that they write to."""

    def __init__(self, cluster: Cluster, folder: Path, url: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.url = url

    def run(self, *words: str) -> str:
        done = gearsync(*words, "--redis", self.cluster.url)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        return rows(self.url, statement)

    def told(self, number: int, target: str) -> dict[str, Any]:
        """What the worker of a shard says of a target."""
        report = deployment_status(self.cluster.clients[number], "shop")["worker"]["report"] or {}
        found: dict[str, Any] = report.get("targets", {}).get(target, {})
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("cluster")
    url = f"sqlite:///{folder}/shop.sqlite"
    for statement in STATEMENTS:
        run_sql(url, statement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DB_URL", url)
        patch.setenv("PYTHONPATH", str(ROOT))
        with Cluster(node, primaries=2) as cluster:
            made = World(cluster, folder, url)
            for name, text in (("shop.py", SHOP), ("pays.py", WHOLE)):
                made.run("deploy", write(folder, text, name))
            yield made


def keys_of(cluster: Cluster, number: int, count: int) -> list[str]:
    """Return items of as many slots of a shard, none of which has the shard's own keys."""
    own = {key_slot(key) for key in cluster.clients[number].scan_iter("gearsync:*")}
    found = (f"item:{each}" for each in range(10_000))
    mine = (key for key in found if cluster.owner(key) == number and key_slot(key.encode()) not in own)
    return [next(mine) for _ in range(count)]


def test_what_waits_for_a_paused_target_keeps_its_order_while_a_slot_moves(world: World) -> None:
    cluster = world.cluster
    world.run("pause", "shop", "--function", "items")
    # A shard that gets it newly gets the pause with it.
    cluster.clients[1].execute_command("GEARSYNC.UNDEPLOY", "shop", "DISCARD")
    world.run("deploy", str(world.folder / "shop.py"))
    eventually(lambda: world.told(1, "own").get("state") == "paused")
    moved, gone, stays = keys_of(cluster, 0, 3)
    with cluster.client() as client:
        for key in (moved, gone, stays):
            client.hset(key, "v", "before")
        for key in (moved, gone):
            assert cluster.move_slot(key_slot(key.encode()), 1) == 1
        client.hset(moved, "v", "after")
        client.delete(gone)
        client.hset(gone, "v", "again")
        client.hset(stays, "v", "after")
    wanted = {key.partition(":")[2]: v for key, v in ((moved, "after"), (gone, "again"), (stays, "after"))}
    eventually(lambda: dict(world.select("SELECT id, v FROM copies")) == wanted)
    assert world.select("SELECT id FROM items") == []
    # One shard is resumed before the other: what was captured there waits for what was captured here before.
    cluster.clients[1].execute_command("GEARSYNC.RESUME", "shop", "TARGET", "own")
    eventually(lambda: "came from another shard" in world.told(1, "own").get("last_error", ""))
    assert world.select("SELECT id FROM items") == []
    world.run("resume", "shop", "--function", "items")
    world.run("wait")
    assert dict(world.select("SELECT id, v FROM items")) == wanted
    for key, states in ((moved, ["before", "after"]), (gone, ["before", "again"])):
        seen = world.select(f"SELECT v FROM seen WHERE id = '{key.partition(':')[2]}' ORDER BY at")
        assert [each[0] for each in seen] == states


def waiting(client: redis.Redis) -> list[tuple[str, bool]]:
    """Return the keys that wait on a shard, and whether each goes on with the one before."""
    (lane,) = (
        each[0].decode()
        for each in client.execute_command("GEARSYNC.LANES", "pays")[4]
        if each[4] == b"current"
    )
    found = [unpacked(pairs) for _, pairs in entries(client, lane)]
    return [(each[1].decode(), each[3].endswith(b"+")) for each in found if each[3][:1] not in b"mi"]


def test_letters_of_transactions_are_tried_again_where_their_keys_are_now(world: World) -> None:
    cluster = world.cluster
    purses = {name: cluster.owner(f"pay:{{{name}}}:1") for name in ("red", "blue", "green", "black", "white")}
    here = [name for name, number in purses.items() if number == 0][:2]
    there = next(name for name, number in purses.items() if number == 1)
    with cluster.client() as client:
        for name in (*here, there):
            with client.pipeline(transaction=True) as pipeline:
                for at in (1, 2):
                    pipeline.hset(f"pay:{{{name}}}:{at}", "v", "refused")
                pipeline.execute()
    world.run("wait")
    listed = json.loads(world.run("deadletters", "list", "--json"))
    assert len(listed) == 6 and world.select("SELECT id FROM pays") == []
    slot = key_slot(f"pay:{{{here[0]}}}:1".encode())
    assert cluster.move_slot(slot, 1) == 2
    run_sql(world.url, "DROP TRIGGER refusing")
    world.run("pause", "pays", "--target", "pays")
    world.run("deadletters", "retry", "--all")
    found = [waiting(client) for client in cluster.clients]
    pairs = {name: [(f"pay:{{{name}}}:1", False), (f"pay:{{{name}}}:2", True)] for name in (*here, there)}
    assert found[0] == pairs[here[1]]
    assert sorted(found[1]) == sorted([*pairs[here[0]], *pairs[there]])
    world.run("resume", "pays", "--target", "pays")
    world.run("wait")
    assert len(world.select("SELECT id FROM pays WHERE v = 'refused'")) == 6
    assert "There are no dead letters" in world.run("deadletters", "list")
