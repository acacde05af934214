"""Upgrades that change the number of lanes while changes wait: each key's come to SQL in their order."""

from __future__ import annotations

import concurrent.futures
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from deploy.hosts.module import ModuleHost
from gears.declaring import config
from tests.integration.deploying import eventually, rows, write
from tests.integration.workers import unsupervised_server, worker_of
from tests.servers import run_sql

FUNCTIONS = """
from gears import WriteBehind, WriteThrough, deployment_settings
from connectors import Target

deployment_settings(name="people", lanes={lanes}, batch=20)
shop = Target("env:SHOP_DB_URL", name="shop")
{kind}(keys="person:{{id}}", table="persons", columns=["name"], target=shop)
"""
KEYS = 60
WRITES = 150
WAITING = [(1, "good"), (2, "refused")]


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([1, 4, 2], "WriteBehind"),
        ([1, 2, 1], "WriteBehind"),
        ([2, 3, 1, 2, 3], "WriteBehind"),
        ([2, 3, 1], "WriteThrough"),
        ([1, 2, 1], "WriteThrough"),
    ],
)
def test_what_waits_in_lanes_of_other_numbers_keeps_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Sequence[int], kind: str
) -> None:
    """Some keys are written by no version but the first: their oldest states must not come last."""
    url = f"sqlite:///{tmp_path}/shop.sqlite"
    run_sql(url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT)")
    monkeypatch.setenv("SHOP_DB_URL", url)
    drawn = random.Random(7)
    with unsupervised_server() as (server, client):
        for version, number in enumerate(numbers):
            last = version == len(numbers) - 1
            text = FUNCTIONS.format(lanes=number, kind=kind if last else "WriteBehind")
            ModuleHost(client).deploy(config.load(write(tmp_path, text)))
            if not last or kind == "WriteBehind":
                write_some(client, drawn, KEYS // (version + 1), f"v{version}")
        with worker_of(server, "people", tmp_path):
            assert client.execute_command("GEARSYNC.WAIT", 30_000) == b"OK"
            client.hset("person:0", "name", "the last")
            assert client.execute_command("GEARSYNC.WAIT", 30_000) == b"OK"
        with server.client(decode_responses=True) as reader:
            keys = list(reader.scan_iter("person:*"))
            found = sorted((int(key.split(":")[1]), reader.hget(key, "name")) for key in keys)
    assert rows(url, "SELECT id, name FROM persons ORDER BY id") == found


def test_dead_letters_of_lanes_of_another_number_hold_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/shop.sqlite"
    run_sql(url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'refused'))")
    monkeypatch.setenv("SHOP_DB_URL", url)
    with unsupervised_server() as (server, client):
        for number in (1, 2, 1):
            text = FUNCTIONS.format(lanes=number, kind="WriteBehind")
            ModuleHost(client).deploy(config.load(write(tmp_path, text)))
            with worker_of(server, "people", tmp_path):
                for key in range(10):
                    client.hset(f"person:{number}{key}", "name", "refused" if key < 5 else "good")
                assert client.execute_command("GEARSYNC.WAIT", 15_000) == b"OK"
    assert rows(url, "SELECT count(*) FROM persons") == [(10,)]


@pytest.mark.parametrize("lanes", [1, 2])
def test_clients_who_wait_for_sql_at_an_upgrade_get_what_becomes_of_their_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    """The next version waits for nothing: what is left of the one before is settled all the same."""
    url = f"sqlite:///{tmp_path}/shop.sqlite"
    run_sql(url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'refused'))")
    monkeypatch.setenv("SHOP_DB_URL", url)
    with unsupervised_server() as (server, client), concurrent.futures.ThreadPoolExecutor(2) as pool:
        text = FUNCTIONS.format(lanes=1, kind="WriteThrough").replace("target", "timeout_ms=60_000, target")
        ModuleHost(client).deploy(config.load(write(tmp_path, text)))
        waiting = [pool.submit(client.hset, f"person:{id_}", "name", name) for id_, name in WAITING]
        eventually(
            lambda: sum(client.xlen(each) for each in client.keys("gearsync:*:lane:*")) == len(WAITING)
        )
        text = FUNCTIONS.format(lanes=lanes, kind="WriteBehind")
        ModuleHost(client).deploy(config.load(write(tmp_path, text)))
        client.hset("person:3", "name", "behind")
        with worker_of(server, "people", tmp_path):
            assert waiting[0].result(60) == 1
            with pytest.raises(redis.ResponseError, match=r"THROUGH person:2 is not written: .*CHECK"):
                waiting[1].result(60)
            assert client.execute_command("GEARSYNC.WAIT", 30_000) == b"OK"
        assert [client.hget(f"person:{id_}", "name") for id_ in (1, 2, 3)] == [b"good", None, b"behind"]
    assert rows(url, "SELECT id, name FROM persons ORDER BY id") == [(1, "good"), (3, "behind")]


def write_some(client: redis.Redis, drawn: random.Random, keys: int, name: str) -> None:
    for number in range(WRITES):
        key = f"person:{drawn.randrange(keys)}"
        if drawn.random() < 0.3:
            client.delete(key)
        else:
            client.hset(key, "name", f"{name} {number}")
