"""Servers that come back, step down and are promoted: what was captured in one life is not another's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.hosts.redisgears import RedisGearsHost
from gears.declaring import config
from gears.redisgears.script import RETRY_SECONDS
from tests.integration.deploying import eventually, rows, write
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql
from tests.storm.clock import Clock

skip_without_redisgears()

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")
shop = Target("env:SHOP_DB_URL", name="shop")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=shop)
"""


class Shop:
    """A database of one file, which can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place = folder / "shop"
        self._place.mkdir()
        self.url = f"sqlite:///{self._place}/shop.sqlite"
        run_sql(self.url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT)")

    def leave(self) -> None:
        run_sql(self.url, "ALTER TABLE persons RENAME TO away")

    def come_back(self) -> None:
        run_sql(self.url, "ALTER TABLE away RENAME TO persons")

    def deploy(self, client: redis.Redis) -> None:
        RedisGearsHost(client).deploy(config.load(write(self.folder, FUNCTIONS)))

    def ids(self) -> list[int]:
        return [row[0] for row in rows(self.url, "SELECT id FROM persons ORDER BY id")]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    monkeypatch.setenv("SHOP_DB_URL", made.url)
    return made


def settled(client: redis.Redis, seconds: float = 20) -> bool:
    return RedisGearsHost(client).wait(round(seconds * 1000), None, None)


def status(client: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = RedisGearsHost(client).status()["deployments"][0]
    return found


def epoch(client: redis.Redis) -> int:
    return int((client.hget("gearsync:{0}:registry", "meta") or b"").split()[1])


def replicate(replica: redis.Redis, primary: RedisGears) -> None:
    replica.replicaof("127.0.0.1", str(primary.port))
    eventually(lambda: replica.info("replication")["master_link_status"] == "up")


@contextlib.contextmanager
def pair() -> Iterator[tuple[RedisGears, RedisGears]]:
    """Start a primary and its replica, which are synchronised at once."""
    options = ("--repl-diskless-sync-delay", "0")
    with RedisGears(*options) as first, RedisGears(*options) as second, second.client() as client:
        replicate(client, first)
        yield first, second


def test_a_server_that_comes_back_twice_from_one_state_skips_nothing(shop: Shop) -> None:
    """Both lives have the same epoch, and the ids of the second are behind those of the first."""
    clock = Clock(shop.folder)
    with RedisGears(environment=clock.variables) as server, server.client() as client:
        client.config_set("save", "")
        shop.deploy(client)
        client.save()
        server.restart()
        clock.set(3600)
        client.hset("person:1", "name", "Ann")
        assert settled(client)
        before = epoch(client)
        clock.set(0)
        server.restart()
        client.hset("person:2", "name", "Bob")
        assert settled(client)
        assert shop.ids() == [1, 2]
        assert epoch(client) > before
        client.hset("person:3", "name", "Cy")
        assert settled(client)
        assert shop.ids() == [1, 2, 3]


def test_a_lane_that_somebody_deletes_begins_anew_whatever_the_clock_says(shop: Shop) -> None:
    clock = Clock(shop.folder)
    with RedisGears(environment=clock.variables) as server, server.client() as client:
        shop.deploy(client)
        clock.set(3600)
        client.hset("person:1", "name", "Ann")
        assert settled(client)
        client.delete(*client.scan_iter("gearsync:lane:*"))
        clock.set(0)
        before = epoch(client)
        for number in (2, 3):
            client.hset(f"person:{number}", "name", "Bob")
            assert settled(client)
            assert shop.ids() == list(range(1, number + 1))
        assert epoch(client) > before


def test_a_replica_that_still_tries_again_claims_nothing(shop: Shop) -> None:
    """RedisGears hands out a batch that has failed once more, whoever is the primary by then."""
    with pair() as (first, second), first.client() as one, second.client() as other:
        shop.deploy(one)
        shop.leave()
        one.hset("person:1", "name", "Ann")
        eventually(lambda: "persons" in str(status(one)["worker"]["report"]["targets"]))
        assert one.execute_command("WAIT", 1, 5000) == 1
        other.replicaof("NO", "ONE")
        other.hset("person:2", "name", "Bob")
        replicate(one, second)
        shop.come_back()
        assert settled(other)
        time.sleep(RETRY_SECONDS + 0.2)
        assert epoch(one) == epoch(other)
        other.hset("person:3", "name", "Cy")
        assert settled(other)
        assert shop.ids() == [1, 2, 3]


def test_what_waits_is_brought_by_a_primary_that_was_a_replica_meanwhile(shop: Shop) -> None:
    """Nobody writes any more: RedisGears itself would look for the waiting changes with the next write."""
    with pair() as (first, second), first.client() as one, second.client() as other:
        shop.deploy(one)
        one.hset("person:1", "name", "Ann")
        assert settled(one)
        assert one.execute_command("WAIT", 1, 5000) == 1
        other.replicaof("NO", "ONE")
        replicate(one, second)
        shop.leave()
        for number in range(2, 7):
            other.hset(f"person:{number}", "name", "Bob")
        # Its RedisGears has them, and so no other reads them as new ones.
        eventually(lambda: "persons" in str(status(other)["worker"]["report"]["targets"]))
        assert other.execute_command("WAIT", 1, 5000) == 1
        one.replicaof("NO", "ONE")
        second.kill9()
        shop.come_back()
        assert settled(one)
        assert shop.ids() == [1, 2, 3, 4, 5, 6]
