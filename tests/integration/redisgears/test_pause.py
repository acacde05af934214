"""A paused deployment on RedisGears, and the way back to an earlier version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import FUNCTIONS, PERSONS, eventually, gearsync, rows, write
from tests.integration.system import System
from tests.redisgears import skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

#: Clients that wait for their write, and for the row of a key that is not there.
WAITING = """
from gears import ReadThrough, WriteThrough, deployment_settings
from connectors import Target

deployment_settings(name="waiting")
reporting = Target("env:REPORTING_DB_URL", name="reporting")
mapping = {"keys": "order:{person_id}", "table": "orders", "columns": {"first_name": "first"}}
WriteThrough(**mapping, target=reporting, name="writes")
ReadThrough(**mapping, target=reporting, name="reads")
"""


class World:
    """RedisGears with both deployments, and the SQLite file that they write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/persons.sqlite"
        for statement in (PERSONS, PERSONS.replace("persons", "orders")):
            run_sql(self.url, statement)
        always = ("--appendonly", "yes", "--appendfsync", "always")
        self.system = System(
            folder, FUNCTIONS, {"REPORTING_DB_URL": self.url}, options=always, host="redisgears"
        )

    def run(self, *words: str) -> Any:
        done = gearsync(*words, "--redis", self.system.server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def deploy(self, text: str) -> None:
        with self.system.environment():
            self.run("deploy", write(self.folder, text, "next.py"), "--offline", "--yes")

    def persons(self, table: str = "persons") -> list[tuple[Any, ...]]:
        return rows(self.url, f"SELECT person_id, first FROM {table} ORDER BY 1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("paused"))
    with made.system:
        yield made


def test_what_is_paused_waits_through_a_restart_and_an_upgrade(world: World) -> None:
    system = world.system
    system.client.hset("person:1", "first_name", "before")
    system.wait()
    world.run("pause", "people", "--reason", "a new index", "--by", "Ünal")
    system.client.hset("person:1", "first_name", "meanwhile")
    system.client.hset("person:2", "first_name", "first")
    system.client.delete("person:2")
    with system.environment():
        system.server.restart()
    eventually(lambda: system.status()["state"] == "paused")
    world.deploy(FUNCTIONS.replace('name="people"', 'name="people", batch=7'))
    status = system.status()
    assert (status["state"], status["version"], status["backlog"]["entries"]) == ("paused", 2, 3)
    assert status["worker"]["report"]["state"] == "paused"
    assert "by Ünal: a new index" in " ".join(world.run("status").stdout.split())
    refused = gearsync("undeploy", "people", "--redis", system.server.url)
    assert refused.returncode == 1 and "resume it first" in refused.stderr
    late = gearsync("wait", "--timeout", "0.2", "--redis", system.server.url)
    assert late.returncode == 1 and "paused since" in " ".join(late.stderr.split())
    assert world.persons() == [("1", "before")]
    world.run("resume", "people")
    system.wait()
    assert world.persons() == [("1", "meanwhile")]
    assert "paused" not in system.status()


def test_clients_that_would_wait_are_told_at_once(world: World) -> None:
    world.deploy(WAITING)
    client = world.system.client
    client.hset("order:7", "first_name", "Ada")
    world.run("pause", "waiting", "--reason", "maintenance")
    with pytest.raises(redis.ResponseError, match="nothing was written: the deployment waiting is paused"):
        client.hset("order:7", "first_name", "Eve")
    with pytest.raises(
        redis.ResponseError, match=r"the deployment waiting is paused since 20.*: maintenance"
    ):
        client.hgetall("order:8")
    assert client.hget("order:7", "first_name") == b"Ada"
    assert world.persons("orders") == [("7", "Ada")]
    world.run("resume", "waiting")
    assert client.hset("order:7", "first_name", "Eve") == 0
    assert world.persons("orders") == [("7", "Eve")]
    world.run("undeploy", "waiting", "--discard")


def test_an_earlier_version_is_deployed_again(world: World) -> None:
    world.deploy(FUNCTIONS.replace('"last_name": "last"', '"last_name": "city"'))
    present = world.system.status()["version"]
    with world.system.environment():
        world.run("rollback", "people", "--to", "1", "--offline", "--yes")
    world.system.client.hset("person:9", mapping={"first_name": "a", "last_name": "b"})
    world.system.wait()
    assert rows(world.url, "SELECT last, city FROM persons WHERE person_id = '9'") == [("b", None)]
    assert world.system.status()["version"] == present + 1
    last = gearsync("rollback", "people", "--to", "99", "--redis", world.system.server.url)
    assert last.returncode == 1 and "one of 1, 2" in last.stderr
