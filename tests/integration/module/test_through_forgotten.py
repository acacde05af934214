"""Write-through after a promotion that forgot that the tag changed, and so of lanes that clients know of."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import sqlalchemy

from connectors import Position
from connectors.sqlite import SQLiteConnector
from gears.applying.intents import Outcome, record_of
from gears.worker import lanes
from gears.worker.through import ThroughRunner
from tests.integration.module.driving import ALWAYS, connect, deploy, module_server
from tests.integration.module.test_through import PERSONS, ticket


class Runner(ThroughRunner):
    """The part of a worker's lane that brings back what SQL has committed."""

    owner = "me"
    deployment = cast("Any", types.SimpleNamespace(name="people"))

    def __init__(self, client: redis.Redis) -> None:
        [self._lane] = lanes.fetch_lanes(client, "people").lanes
        self._term = lanes.Term(1 << 20)
        self._shared = cast("Any", types.SimpleNamespace(owner="me"))


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with module_server(*ALWAYS) as server, connect(server) as client:
        deploy(client, PERSONS)
        yield client


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[SQLiteConnector]:
    with database(tmp_path) as connector:
        yield connector


@contextlib.contextmanager
def database(tmp_path: Path) -> Iterator[SQLiteConnector]:
    """Give a database with the tables of gearsync itself."""
    connector = SQLiteConnector(sqlalchemy.make_url(f"sqlite:///{tmp_path}/target.db"))
    connector.ensure_checkpoint()
    connector.ensure_intents()
    yield connector
    connector.close()


def commit(connector: SQLiteConnector, stream: str, position: Position, *words: str) -> None:
    """Commit a client's write, as the worker of the shard that is lost did."""
    record = record_of([Outcome("7-7", ticket(*words), ""), Outcome("7-8", b"", "refused")])
    claim = connector.claim(stream, position.epoch, "lost")
    connector.commit_intents(claim, position, None, [], lambda _: record)


def test_what_lanes_under_another_tag_have_committed_comes_back(
    client: redis.Redis, connector: SQLiteConnector
) -> None:
    runner = Runner(client)
    own = runner._lane.stream
    epoch = lanes.fetch_applied(client, own).epoch
    forgotten, older = own.replace("{0}", "{77}"), own.replace("{0}", "{5}")
    strange = forgotten.replace(":people:", ":peoples:")
    commit(connector, older, Position(epoch, 9, 0), "HSET", "person:1", "age", "0")
    commit(connector, strange, Position(epoch + 2, 9, 0), "HSET", "person:1", "age", "1")
    commit(connector, forgotten, Position(epoch + 1, 9, 0), "HSET", "person:2", "age", "2")
    commit(connector, forgotten, Position(epoch + 1, 10, 0), "HINCRBY", "person:2", "age", "5")
    commit(connector, own, Position(epoch + 2, 3, 0), "HSET", "person:2", "first", "A")
    runner._redo(client, connector, Position(0, 0, 0))
    assert client.hgetall("person:2") == {b"age": b"7", b"first": b"A"}
    assert not client.exists("person:1")
    assert lanes.fetch_applied(client, own) == Position(epoch + 2, 3, 0)
    runner._redo(client, connector, Position(0, 0, 0))
    assert client.hgetall("person:2") == {b"age": b"7", b"first": b"A"}
    assert connector.last_intent(forgotten) is None
