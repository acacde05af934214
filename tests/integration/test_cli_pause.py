"""A paused deployment: changes wait, through restarts and upgrades, and go to SQL when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.deploying import FUNCTIONS, PERSONS, eventually, gearsync, gearsync_json, rows, write
from tests.integration.system import System
from tests.integration.test_deploy_upgrade import Writer, hashes, table
from tests.servers import run_sql


class World:
    """Redis with a worker, and the SQLite file that it writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/persons.sqlite"
        run_sql(self.url, PERSONS)
        # A restart is a kill: nothing that was written may be lost by it.
        always = ("--appendonly", "yes", "--appendfsync", "always")
        self.system = System(folder, FUNCTIONS, {"REPORTING_DB_URL": self.url}, options=always)

    def run(self, *words: str) -> Any:
        done = gearsync(*words, "--redis", self.system.server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def persons(self) -> list[tuple[Any, ...]]:
        return rows(self.url, "SELECT person_id, first FROM persons ORDER BY 1")

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = self.system.status()["worker"]["report"] or {}
        return found


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
    system.client.hset("person:3", "first_name", "third")
    with system.environment():
        system.server.restart()
        changed = write(world.folder, FUNCTIONS.replace('name="people"', 'name="people", batch=7'), "v2.py")
        world.run("deploy", changed)
    eventually(lambda: world.report().get("state") == "paused")
    status = system.status()
    assert (status["state"], status["version"], status["backlog"]["entries"]) == ("paused", 2, 4)
    shown = world.run("status").stdout
    assert "by Ünal: a new index" in " ".join(shown.split()) and "paused since 20" in shown
    refused = gearsync("undeploy", "people", "--redis", system.server.url)
    assert refused.returncode == 1 and "resume it first" in refused.stderr
    late = gearsync("wait", "--timeout", "0.2", "--redis", system.server.url)
    assert late.returncode == 1 and "paused since" in " ".join(late.stderr.split())
    assert world.persons() == [("1", "before")]
    world.run("resume", "people")
    system.wait()
    assert world.persons() == [("1", "meanwhile"), ("3", "third")]
    assert "paused" not in system.status()


def test_a_paused_backlog_near_its_bound_needs_attention(world: World) -> None:
    bound = 'name="people", backlog={"entries": 10}'
    world.run(
        "deploy", write(world.folder, FUNCTIONS.replace('name="people"', bound), "bound.py"), "--offline"
    )
    world.run("pause", "people")
    for number in range(8):
        world.system.client.hset("person:9", "first_name", f"n{number}")
    attention = gearsync_json("status", "--redis", world.system.server.url)["attention"]
    assert any("paused, and its backlog is at 80% of its limit" in each for each in attention), attention
    world.run("resume", "people")
    world.system.wait()
    assert ("9", "n7") in world.persons()


def test_what_is_not_there_or_bad_is_told(world: World) -> None:
    for command in ("pause", "resume"):
        done = gearsync(command, "nobody", "--redis", world.system.server.url)
        assert done.returncode == 1 and "there is no deployment nobody" in done.stderr
    too_long = gearsync("pause", "people", "--reason", "x" * 2000, "--redis", world.system.server.url)
    assert too_long.returncode == 1 and "1000 bytes" in too_long.stderr
    with pytest.raises(redis.ResponseError):
        world.system.client.execute_command("GEARSYNC.PAUSE")


def test_what_a_version_captured_is_applied_by_its_rules(world: World) -> None:
    client = world.system.client

    def deploy(columns: str) -> None:
        text = FUNCTIONS.replace('{"first_name": "first", "last_name": "last"}', columns)
        world.run("deploy", write(world.folder, text, "mapping.py"), "--offline", "--yes")

    deploy('{"name": "first", "town": "city"}')
    world.run("pause", "people")
    for key, name in (("20", "as first"), ("21", "goes"), ("22", "twice")):
        client.hset(f"person:{key}", "name", name)
    deploy('{"name": "last"}')
    client.hset("person:22", "name", "again")
    client.delete("person:21")
    client.hset("person:23", mapping={"name": "as last", "town": "nowhere"})
    with world.system.environment():
        world.system.server.restart()
    world.run("resume", "people")
    world.system.wait()
    asked = "SELECT person_id, first, last, city FROM persons WHERE person_id LIKE '2_' ORDER BY 1"
    assert rows(world.url, asked) == [
        ("20", "as first", None, None),
        ("22", "twice", "again", None),
        ("23", None, "as last", None),
    ]


def test_an_upgrade_a_pause_and_the_way_back_under_load_lose_nothing(world: World) -> None:
    world.system.client.flushall()
    world.run("undeploy", "people", "--discard")
    run_sql(world.url, "DELETE FROM persons")
    world.run("deploy", write(world.folder, FUNCTIONS), "--offline")
    wider = FUNCTIONS.replace('"last_name": "last"', '"last_name": "last", "age": "age", "city": "city"')
    writer = Writer(world.system.server)
    writer.start()
    world.run("deploy", write(world.folder, wider, "wider.py"), "--offline")
    world.run("pause", "people")
    refused = gearsync("rollback", "people", "--offline", "--redis", world.system.server.url)
    assert refused.returncode == 1 and "destructive" in refused.stderr
    world.run("rollback", "people", "--offline", "--yes")
    world.run("resume", "people")
    seen = writer.writes
    eventually(lambda: writer.writes > seen + 50 or writer.error is not None)
    writer.finish()
    world.system.wait()
    written, arrived = hashes(world.system.server), table(world.url)
    assert {key: row[:2] for key, row in arrived.items()} == {key: row[:2] for key, row in written.items()}
    wide = [key for key, row in arrived.items() if row[2] is not None]
    assert wide and {key: arrived[key] for key in wide} == {key: written[key] for key in wide}
    assert str(writer.writes - 1) in arrived and str(writer.writes - 1) not in wide
    last = gearsync("rollback", "people", "--to", "9", "--redis", world.system.server.url)
    assert last.returncode == 1 and "one of 1, 2" in last.stderr
    status = world.system.status()
    assert (status["version"], status["state"]) == (3, "active")
