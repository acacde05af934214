"""What a pause of one function holds back survives crashes at each step, and promotions that forget."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
import redis

from deploy.hosts.module import ModuleHost
from gears.applying import failpoints
from gears.declaring import config
from gears.worker.worker import Worker
from tests.integration.deploying import eventually, rows, write
from tests.integration.test_cli_pause_function import SEEN, assert_in_order
from tests.integration.workers import unsupervised_server, worker_of
from tests.servers import RedisServer, run_sql

FUNCTIONS = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="shop", batch=20)
shop = Target("env:SHOP_DB_URL", name="shop")
WriteBehind(keys="order:{id}", table="orders", columns={"v": "v"}, target=shop)
WriteBehind(keys="order:{id}", table="copies", columns={"v": "v"}, target=shop)
"""
BURST = 60
ROWS = 5


class Shop:
    """Databases, and servers whose workers run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/shop.sqlite"
        self.number = 0
        for table in ("orders", "copies"):
            run_sql(self.url, f"CREATE TABLE {table} (id VARCHAR(64) PRIMARY KEY, v INTEGER)")
        run_sql(self.url, SEEN)
        for event in ("INSERT", "UPDATE"):
            run_sql(
                self.url,
                f"CREATE TRIGGER on_{event} AFTER {event} ON orders BEGIN "
                "INSERT INTO seen (id, v) VALUES (NEW.id, NEW.v); END",
            )
        self.functions = config.load(write(folder, FUNCTIONS))

    def worker(self, server: RedisServer) -> contextlib.AbstractContextManager[Worker]:
        """Run a worker."""
        return worker_of(server, "shop", self.folder)

    def write(self, client: redis.Redis) -> None:
        """Write a burst; versions only grow."""
        for _ in range(BURST):
            self.number += 1
            client.hset(f"order:{self.number % ROWS}", "v", self.number)

    def table(self, name: str) -> list[int]:
        return [row[0] for row in rows(self.url, f"SELECT v FROM {name} ORDER BY v")]

    @property
    def newest(self) -> list[int]:
        return list(range(self.number - ROWS + 1, self.number + 1))


def pause(client: redis.Redis) -> None:
    client.execute_command("GEARSYNC.PAUSE", "shop", "", "", "FUNCTION", "orders")


def resume(client: redis.Redis) -> None:
    client.execute_command("GEARSYNC.RESUME", "shop", "FUNCTION", "orders")


def held(client: redis.Redis) -> int:
    """Return how many changes are held; -1: the function goes with its lane."""
    functions = ModuleHost(client).status()["deployments"][0]["functions"]
    found: int = functions[0].get("held", -1)
    return found


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    monkeypatch.setenv("SHOP_DB_URL", made.url)
    return made


def test_a_worker_that_dies_at_any_step_loses_and_reorders_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[tuple[str, bool]] = []

    def reach(name: str) -> None:
        of_held = ":h" in threading.current_thread().name
        if (name, of_held) in armed:
            armed.remove((name, of_held))
            raise RuntimeError(f"dies at {name}")

    monkeypatch.setattr(failpoints, "reach", reach)
    while_moving = [(name, False) for name in ("after-hold", "before-sql", "before-ack")]
    while_draining = [(name, True) for name in ("after-commit", "before-ack")]
    with unsupervised_server() as (server, client):
        ModuleHost(client).deploy(shop.functions)
        with shop.worker(server):
            for point in [*while_moving, *while_draining, ("held-ended", False)]:
                pause(client)
                if point in while_moving:
                    armed.append(point)
                shop.write(client)
                eventually(lambda: shop.table("copies") == shop.newest and held(client) > 0)
                if point not in while_moving:
                    armed.append(point)
                resume(client)
                shop.write(client)
                eventually(lambda: held(client) == -1)
                client.execute_command("GEARSYNC.WAIT", 20_000)
                assert (armed, shop.table("orders")) == ([], shop.newest), point
                assert shop.table("copies") == shop.newest, point
    assert_in_order(shop.url)


@pytest.mark.parametrize("knows", [False, True], ids=["without the pause", "with the pause"])
def test_a_replica_that_is_promoted_without_what_was_moved(shop: Shop, knows: bool) -> None:
    with unsupervised_server() as (old, client), unsupervised_server() as (new, replica):
        ModuleHost(client).deploy(shop.functions)
        replica.execute_command("REPLICAOF", "127.0.0.1", old.port)
        shop.write(client)
        if knows:
            pause(client)
        assert client.execute_command("WAIT", 1, 20_000) == 1
        # From here on it gets nothing more; SQL does.
        replica.execute_command("REPLICAOF", "127.0.0.1", 1)
        if not knows:
            pause(client)
        with shop.worker(old):
            eventually(lambda: shop.table("copies") == shop.newest)
        assert (shop.table("orders"), held(client)) == ([], BURST)
        replica.execute_command("REPLICAOF", "NO", "ONE")
        with shop.worker(new):
            if knows:
                eventually(lambda: held(replica) == BURST)
                assert shop.table("orders") == []
                resume(replica)
            eventually(lambda: held(replica) == -1 and shop.table("orders") == shop.newest)
            shop.write(replica)
            eventually(lambda: shop.table("orders") == shop.table("copies") == shop.newest)
    assert_in_order(shop.url)
