"""gearsync worker, as a process: a deployment whose worker runs outside Redis."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.integration import deployed
from tests.integration.command import Process, gearsync, until
from tests.integration.workers import worker_of
from tests.servers import RedisServer

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="external")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=Target("env:REPORTING_DB_URL"))
"""


class World:
    """A Redis, a SQLite database, and the deployment between them."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        self.server = server
        self.database = folder / "reporting.db"
        self.variables: dict[str, Any] = {
            "REPORTING_DB_URL": f"sqlite:///{self.database}",
            "GEARSYNC_REDIS": server.url,
        }
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT)")
        connection.close()
        functions = folder / "functions.py"
        functions.write_text(FUNCTIONS)
        done = gearsync("deploy", str(functions), **self.variables)
        assert done.returncode == 0, done.stderr

    def worker(self, name: str = "worker", *arguments: str) -> Process:
        return Process(self.folder / f"{name}.log", "worker", *arguments, **self.variables)

    def names(self) -> dict[int, str]:
        connection = sqlite3.connect(self.database)
        try:
            return dict(connection.execute("SELECT id, name FROM persons").fetchall())
        finally:
            connection.close()

    def report(self, client: redis.Redis) -> dict[str, Any]:
        status = json.loads(client.execute_command("GEARSYNC.STATUS"))
        found: dict[str, Any] = status["deployments"][0]["worker"]
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with deployed.server() as server:
        yield World(tmp_path, server)


def test_it_brings_changes_to_sql_and_ends_in_order(world: World) -> None:
    with world.server.client() as client:
        client.hset("person:1", "name", "Ada")
        # gearsync's own keys are in database 0, whatever a URL says that is the application's too.
        world.variables["GEARSYNC_REDIS"] += "/3?max_connections=1"
        process = world.worker()
        assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
        assert world.names() == {1: "Ada"}
        children = process.descendants()
        assert process.end(signal.SIGTERM) == 0
    assert children
    assert all(not each.is_running() for each in children)
    assert "Traceback" not in process.text()


def test_no_password_is_in_the_arguments_of_any_process(world: World) -> None:
    with world.server.client() as client:
        client.config_set("requirepass", "secret-word")
    world.variables["GEARSYNC_REDIS"] = world.server.url.replace("redis://", "redis://:secret-word@")
    process = world.worker()
    try:
        until(process.descendants)
        assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
        for each in [psutil.Process(process.process.pid), *process.descendants()]:
            assert "secret-word" not in " ".join(each.cmdline())
    finally:
        process.end()
    assert "secret-word" not in process.text()


def test_a_crashed_worker_is_started_again(world: World) -> None:
    with world.server.client() as client:
        process = world.worker("worker", "--deployment", "people")
        try:
            until(lambda: world.report(client)["state"] == "running")
            [first] = process.descendants()
            first.kill()
            client.hset("person:2", "name", "Grace")
            assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
            [second] = process.descendants()
            assert second.pid != first.pid
        finally:
            process.end()
    assert world.names() == {2: "Grace"}
    assert "ended, signal 9" in process.text()


def test_a_second_one_stands_by_until_the_first_is_gone(world: World) -> None:
    with world.server.client() as client:
        first = world.worker("first")
        second = None
        try:
            until(lambda: world.report(client)["state"] == "running")
            second = world.worker("second")
            client.hset("person:3", "name", "Edith")
            assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
            assert second.descendants() == []
            first.end()
            client.hset("person:3", "name", "Noor")
            assert gearsync("wait", "--timeout", "60", **world.variables).returncode == 0
            assert len(second.descendants()) == 1
        finally:
            first.end()
            if second is not None:
                second.end()
    assert world.names() == {3: "Noor"}


def test_an_unknown_deployment_is_said(world: World) -> None:
    done = gearsync("worker", "--deployment", "poeple", **world.variables)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no deployment poeple.")


def test_it_ends_at_once_while_redis_does_not_answer(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had each of its workers wait for three answers, and itself for another one: 51 seconds."""
    pid = world.server.pid
    with world.server.client() as client:
        client.hset("person:1", "name", "Ada")
        process = world.worker()
        assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
        client.hset("person:1", "name", "Grace")
        os.kill(pid, signal.SIGSTOP)
        try:
            # It is in the midst of a look at Redis by then.
            time.sleep(1)
            began = time.monotonic()
            assert process.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 12
        finally:
            os.kill(pid, signal.SIGCONT)
        assert "killed" not in process.text()
        monkeypatch.setenv("REPORTING_DB_URL", world.variables["REPORTING_DB_URL"])
        with worker_of(world.server, "people", tmp_path):
            assert gearsync("wait", "--timeout", "30", **world.variables).returncode == 0
    assert world.names() == {1: "Grace"}
