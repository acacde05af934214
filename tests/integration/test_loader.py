"""The thread that brings rows, in this process: how many statements it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa

import connectors
from connectors import Connector, Target
from gears.applying.report import TargetReport
from gears.declaring.declarations import ReadThrough
from gears.declaring.deployment import Deployment
from gears.worker.reading.loader import Loader
from gears.worker.shared import Shared
from tests.integration.deploying import eventually
from tests.integration.module.driving import connect, module_server
from tests.integration.module.reading import Client, counts
from tests.servers import RedisServer, run_sql


class Watched:
    """A database whose SELECTs on the table are counted, and held at will."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.free = threading.Event()
        self.held = threading.Event()
        self.statements: list[str] = []

    def open(self, _target: str) -> Connector:
        connector = connectors.connect(self.url)
        engine: Any = connector._engine
        sa.event.listen(engine, "before_cursor_execute", self._before)
        return connector

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if all(word in statement for word in ("SELECT", "persons", "name")):
            self.statements.append(statement)
            self.held.set()
            assert self.free.wait(60)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with module_server() as found:
        yield found


@pytest.fixture
def watched(database_url: str) -> Watched:
    run_sql(database_url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20))")
    for number in range(60):
        run_sql(database_url, f"INSERT INTO persons VALUES ({number}, 'n{number}')")
    return Watched(database_url)


@pytest.fixture
def loader(server: RedisServer, watched: Watched) -> Iterator[Loader]:
    target = Target("env:DB_URL", name="first")
    declared = ReadThrough(keys="person:{id}", table="persons", columns=["name"], target=target)
    assert declared.function is not None
    deployment = Deployment(
        "people", functions=[declared.function], targets={"first": target}, worker="external"
    )
    with connect(server) as client:
        client.execute_command("GEARSYNC.DEPLOY", *deployment.deploy_arguments())
    found = Loader(Shared(server.url, deployment, "me", watched.open, {}), "first", TargetReport())
    found.start()
    yield found
    watched.free.set()
    found.halt()
    found.thread.join(30)
    assert not found.thread.is_alive()


def start(server: RedisServer, count: int, keys: int) -> list[Client]:
    return [Client(server, "HGET", f"person:{number % keys}", "name") for number in range(count)]


def waiting(client: redis.Redis) -> int:
    return counts(client)["waiting"]


def test_many_clients_cause_few_selects(server: RedisServer, watched: Watched, loader: Loader) -> None:
    """While one SELECT runs, all that miss meanwhile gather for the next one."""
    with connect(server) as client:
        first = Client(server, "HGET", "person:0", "name")
        assert watched.held.wait(30)
        others = start(server, 80, 40)
        eventually(lambda: waiting(client) == 81)
        watched.free.set()
        assert [first.result(), *(each.result() for each in others)] == [
            b"n0",
            *(f"n{number % 40}".encode() for number in range(80)),
        ]
        # The second one has 39 keys: that of the first is read already.
        assert len(watched.statements) == 2


def test_clients_of_one_key_cause_one_select(server: RedisServer, watched: Watched, loader: Loader) -> None:
    with connect(server) as client:
        readers = start(server, 30, 1)
        eventually(lambda: waiting(client) == 30)
        watched.free.set()
        assert [each.result() for each in readers] == [b"n0"] * 30
        assert len(watched.statements) == 1
