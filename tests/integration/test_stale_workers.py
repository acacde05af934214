"""Workers that were away while what they had at hand became another's: a deployment, ids, a table."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from connectors import Position
from deploy.hosts.module import ModuleHost
from gears.applying import failpoints
from gears.applying.intents import Outcome
from gears.declaring import config
from gears.worker import lanes
from gears.worker import worker as workers
from tests.integration.command import until
from tests.integration.deploying import rows, write
from tests.integration.module.test_through import Sent
from tests.integration.workers import unsupervised_server, worker_of
from tests.servers import RedisServer, run_sql
from tests.storm.clock import Clock

FUNCTIONS = """
from gears import ReadThrough, WriteBehind, WriteThrough, deployment_settings
from connectors import Target

deployment_settings(name="people")
shop = Target("env:SHOP_DB_URL", name="shop")
{kind}(keys="person:{{id}}", table="{table}", columns=["name"], target=shop{more})
"""


class Shop:
    """A database with two tables, and functions over either of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/shop.sqlite"
        for table in ("persons", "others"):
            run_sql(self.url, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")

    def deploy(self, client: redis.Redis, table: str = "persons", kind: str = "WriteBehind") -> None:
        more = ", ttl=60" if kind == "ReadThrough" else ""
        text = FUNCTIONS.format(table=table, kind=kind, more=more)
        ModuleHost(client).deploy(config.load(write(self.folder, text)))

    def ids(self, table: str = "persons") -> list[int]:
        return [row[0] for row in rows(self.url, f"SELECT id FROM {table} ORDER BY id")]

    def worker(self, server: RedisServer) -> contextlib.AbstractContextManager[workers.Worker]:
        return worker_of(server, "people", self.folder)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    monkeypatch.setenv("SHOP_DB_URL", made.url)
    return made


def settled(client: redis.Redis) -> None:
    assert client.execute_command("GEARSYNC.WAIT", 15_000) == b"OK"


@pytest.mark.parametrize("kind", ["WriteBehind", "WriteThrough"])
def test_functions_of_a_deployment_that_is_gone_are_not_run_for_its_successor(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The worker hears nothing of the undeploy: it was stopped, or cut off, for that long."""
    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 600)
    with unsupervised_server() as (server, client):
        shop.deploy(client, kind=kind)
        with shop.worker(server):
            client.hset("person:1", "name", "Ann")
            settled(client)
            replace(shop, client, kind)
            with shop.worker(server):
                until(lambda: is_written(client, "person:2"))
                settled(client)
        assert (shop.ids(), shop.ids("others")) == ([1], [2])


def is_written(client: redis.Redis, key: str) -> bool:
    """Write it; a client whose worker is fenced is told that nothing was written."""
    try:
        client.hset(key, "name", "Bob")
    except redis.ResponseError as error:
        assert "nothing was written" in str(error)
        return False
    return True


def test_rows_are_not_read_for_a_deployment_that_is_gone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 600)
    for table, name in (("persons", "of before"), ("others", "of now")):
        run_sql(shop.url, f"INSERT INTO {table} VALUES (1, '{name}'), (2, '{name}')")
    with unsupervised_server() as (server, client):
        shop.deploy(client, kind="ReadThrough")
        with shop.worker(server):
            until(lambda: client.hget("person:1", "name") == b"of before")
            replace(shop, client, "ReadThrough")
            with shop.worker(server):
                assert client.hget("person:2", "name") == b"of now"


def replace(shop: Shop, client: redis.Redis, kind: str) -> None:
    """Undeploy, and deploy again under the same name, and so with the same version."""
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    until(lambda: not client.execute_command("GEARSYNC.DEPLOYMENTS"))
    shop.deploy(client, "others", kind)


def test_what_sql_has_committed_is_not_done_again_over_a_later_write(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker sleeps between its question to SQL and Redis; another one does its work, and goes on."""
    real, reached, go_on, done = lanes.redo, threading.Event(), threading.Event(), threading.Event()
    armed = ["after-commit"]

    def reach(name: str) -> None:
        if name in armed:
            armed.remove(name)
            raise redis.ConnectionError("the connection is lost")

    def redo(
        client: redis.Redis, stream: str, position: Position, worker: str, outcomes: Sequence[Outcome]
    ) -> None:
        sleeps = bool(outcomes) and not reached.is_set()
        if sleeps:
            reached.set()
            assert go_on.wait(60)
        try:
            real(client, stream, position, worker, outcomes)
        finally:
            if sleeps:
                done.set()

    monkeypatch.setattr(failpoints, "reach", reach)
    monkeypatch.setattr(lanes, "redo", redo)
    with unsupervised_server() as (server, client):
        shop.deploy(client, kind="WriteThrough")
        with shop.worker(server):
            first = Sent(server, "HSET", "person:1", "name", "Ann")
            assert reached.wait(20)
            with shop.worker(server):
                assert first.result() == 1
                until(lambda: is_written(client, "person:1"))
                go_on.set()
                assert done.wait(20)
                assert client.hget("person:1", "name") == b"Bob"
                settled(client)
        assert rows(shop.url, "SELECT name FROM persons") == [("Bob",)]


@contextlib.contextmanager
def clocked_server(clock: Clock) -> Iterator[tuple[RedisServer, redis.Redis]]:
    """Start a server that saves nothing by itself, and goes by that clock."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.variables.items():
            patch.setenv(name, value)
        with unsupervised_server() as (server, client):
            for name in clock.variables:
                patch.delenv(name)
            client.config_set("save", "")
            yield server, client


def restart(server: RedisServer, clock: Clock) -> None:
    """Have it come back, after a crash, as it was saved last."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.variables.items():
            patch.setenv(name, value)
        server.restart()


def test_an_acknowledgment_from_before_a_crash_takes_no_change_from_after_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(shop.folder)
    reached, go_on, armed = threading.Event(), threading.Event(), ["before-ack"]

    def reach(name: str) -> None:
        if name in armed:
            armed.remove(name)
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(failpoints, "reach", reach)
    with clocked_server(clock) as (server, client):
        shop.deploy(client)
        client.save()
        with shop.worker(server):
            clock.set(3600)
            client.hset("person:1", "name", "Ann")
            assert reached.wait(20)
            # Its id is ahead of all that the restarted server gives.
            clock.set(0)
            restart(server, clock)
            client.hset("person:2", "name", "Bob")
            go_on.set()
            settled(client)
        assert shop.ids() == [1, 2]


def test_a_server_that_comes_back_twice_from_one_state_skips_nothing(shop: Shop) -> None:
    """Both lives have the same epoch, and the ids of the second are behind those of the first."""
    clock = Clock(shop.folder)
    with clocked_server(clock) as (server, client):
        shop.deploy(client)
        client.save()
        with shop.worker(server):
            restart(server, clock)
            clock.set(3600)
            client.hset("person:1", "name", "Ann")
            settled(client)
            epoch = ModuleHost(client).status()["epoch"]
            clock.set(0)
            restart(server, clock)
            client.hset("person:2", "name", "Bob")
            assert ModuleHost(client).status()["epoch"] == epoch
            settled(client)
            assert shop.ids() == [1, 2]
            until(lambda: ModuleHost(client).status()["epoch"] > epoch)
            client.hset("person:3", "name", "Cy")
            settled(client)
        assert shop.ids() == [1, 2, 3]


def test_what_waits_in_the_state_that_comes_back_is_not_taken_for_applied(shop: Shop) -> None:
    """As where a primary that was cut off wins over the replica that was promoted meanwhile: SQL has what
    that one captured, later than what waits here, and Redis has forgotten it.
    """
    with unsupervised_server() as (server, client):
        client.config_set("save", "")
        shop.deploy(client)
        client.save()
        saved = server.directory / "dump.rdb"
        nothing_waits = saved.read_bytes()
        client.hset("person:1", "name", "Ann")
        client.save()
        one_waits = saved.read_bytes()
        for state, expected in ((nothing_waits, [2]), (one_waits, [1, 2])):
            server.kill9()
            saved.write_bytes(state)
            server.start()
            if state is nothing_waits:
                client.hset("person:2", "name", "Bob")
            with shop.worker(server):
                settled(client)
            assert shop.ids() == expected


def test_a_worker_that_has_not_heard_of_a_restart_applies_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on reading, and meets changes of the server's new life before it knows of that."""
    run_sql(shop.url, "CREATE TABLE log (id INTEGER)")
    for event in ("INSERT", "UPDATE"):
        body = "INSERT INTO log VALUES (NEW.id)"
        run_sql(shop.url, f"CREATE TRIGGER log_{event} AFTER {event} ON persons BEGIN {body}; END")
    with unsupervised_server() as (server, client):
        shop.deploy(client)
        with monkeypatch.context() as patch:
            patch.setattr(workers, "HEARTBEAT_SECONDS", 600)
            with shop.worker(server):
                client.hset("person:1", "name", "Ann")
                settled(client)
                client.save()
                server.restart()
                client.hset("person:2", "name", "Bob")
                with contextlib.suppress(TimeoutError):
                    until(lambda: shop.ids() == [1, 2], 2)
        with shop.worker(server):
            settled(client)
        assert rows(shop.url, "SELECT id FROM log") == [(1,), (2,)]


@pytest.mark.parametrize("statement", ["DROP TABLE gearsync_checkpoint", "DELETE FROM gearsync_checkpoint"])
def test_a_checkpoint_that_goes_under_way_is_made_anew(shop: Shop, statement: str) -> None:
    with unsupervised_server() as (server, client):
        shop.deploy(client)
        with shop.worker(server):
            client.hset("person:1", "name", "Ann")
            settled(client)
            run_sql(shop.url, statement)
            client.hset("person:2", "name", "Bob")
            settled(client)
            assert shop.ids() == [1, 2]


def test_a_deployment_that_drains_hears_of_another_epoch(shop: Shop) -> None:
    with unsupervised_server() as (server, client):
        shop.deploy(client)
        client.hset("person:1", "name", "Ann")
        run_sql(shop.url, "ALTER TABLE persons RENAME TO away")
        with shop.worker(server):
            until(lambda: ModuleHost(client).status()["deployments"][0]["worker"]["state"] == "running")
            client.execute_command("GEARSYNC.UNDEPLOY", "people")
            client.flushall()
            run_sql(shop.url, "ALTER TABLE away RENAME TO persons")
            until(lambda: not client.execute_command("GEARSYNC.DEPLOYMENTS"))
        assert shop.ids() == [1]
