"""The real worker, started by the module: secrets, a new greeting, the fence, the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from connectors import Target
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template
from tests.integration.deploying import ROOT
from tests.integration.module.clock import Clock
from tests.integration.module.driving import ALWAYS, connect, module_server, wait_for
from tests.integration.module.supervising import has_ended, worker
from tests.servers import RedisServer, run_sql

PASSWORD = "t0p/s3cret"
FOLDER = "d\u00e9p\u00f4t"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of a SQLite database."""
    url = f"sqlite:///{tmp_path / 'reporting.db'}"
    run_sql(url, "CREATE TABLE persons (id TEXT PRIMARY KEY, first TEXT)")
    return url


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def server(
    database: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisServer]:
    """A server with a password, whose folder has no plain name."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    (tmp_path / "url").write_text(database)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = (*ALWAYS, "--dir", str(folder))
    with clock.runs(module_server(*options, arguments=("PYTHON", sys.executable))) as found:
        with connect(found) as client:
            client.config_set("requirepass", PASSWORD)
        yield found


@pytest.fixture
def client(server: RedisServer, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of the server, with a deployment whose worker has brought a first row to SQL."""
    with connect(server, password=PASSWORD, socket_timeout=60) as found:
        deploy(found, tmp_path)
        write(found, 1)
        yield found


def deploy(client: redis.Redis, folder: Path, **settings: Any) -> None:
    """Deploy person:{id} into the database whose URL is in the folder's file ``url``."""
    mapping = Mapping(Template("person:{id}"), "persons", {"first": "first"})
    targets = {"t1": Target(f"file:{folder / 'url'}", name="t1")}
    deployment = Deployment(
        "people", functions=[Function("persons", mapping, "t1")], targets=targets, **settings
    )
    client.execute_command("GEARSYNC.DEPLOY", *deployment.deploy_arguments())


def write(client: redis.Redis, number: int) -> None:
    """Write a hash and wait until it is in SQL."""
    client.hset(f"person:{number}", "first", f"F{number}")
    assert client.execute_command("GEARSYNC.WAIT", 30_000) == b"OK"


def rows(database: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in run_sql(database, "SELECT id, first FROM persons ORDER BY id")]


def test_it_has_no_secret_and_no_descriptor_of_the_servers_and_ends_with_it(
    server: RedisServer, client: redis.Redis, database: str
) -> None:
    assert rows(database) == [("1", "F1")]
    pid = worker(client)["pid"]
    process = psutil.Process(pid)
    assert process.cmdline()[1:] == ["-m", "gears.worker", "--deployment", "people", "--supervised"]
    seen = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"PYTHONPATH" in seen and b"s3cret" not in seen
    assert "s3cret" not in server.log_text()
    assert "s3cret" not in client.execute_command("GEARSYNC.STATUS").decode()
    assert not descriptors(pid) & descriptors(server.pid)
    client.close()
    server.kill9()
    wait_for(lambda: has_ended(pid), "the end of the worker")
    assert "stopping: Redis asks for it, or is gone" in server.log_text()


def descriptors(pid: int) -> set[str]:
    """Return what a process has open besides its standard input, output and errors."""
    folder = Path(f"/proc/{pid}/fd")
    links = {int(each.name): os.readlink(each) for each in folder.iterdir() if each.is_symlink()}
    own = ("anon_inode:", "/dev/")
    return {link for number, link in links.items() if number > 2 and not link.startswith(own)}


def test_a_new_password_reaches_it(server: RedisServer, client: redis.Redis, database: str) -> None:
    pid = worker(client)["pid"]
    client.config_set("requirepass", "another")
    with connect(server, password="another", socket_timeout=60) as again:
        again.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        again.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        write(again, 2)
        assert worker(again)["pid"] not in (0, pid)
        assert worker(again)["last_exit"] == "exit code 1"
    assert rows(database) == [("1", "F1"), ("2", "F2")]


def test_a_fenced_one_says_so_and_comes_back(client: redis.Redis, database: str, clock: Clock) -> None:
    """As if another worker had claimed the lane, and were gone since."""
    pid = worker(client)["pid"]
    run_sql(database, "UPDATE gearsync_checkpoint SET generation = generation + 1")
    client.hset("person:2", "first", "F2")
    wait_for(lambda: worker(client)["state"] == "fenced", "the fence")
    found = worker(client)
    assert (found["pid"], found["last_exit"]) == (0, "fenced: another worker owns the lanes")
    assert found["report"]["state"] == "fenced" and "another worker has claimed" in found["report"]["error"]
    clock.advance(6)
    assert client.execute_command("GEARSYNC.WAIT", 30_000) == b"OK"
    assert worker(client)["pid"] not in (0, pid)
    assert rows(database) == [("1", "F1"), ("2", "F2")]


def test_requirements_are_installed_in_the_servers_folder(client: redis.Redis, tmp_path: Path) -> None:
    """The module tells the worker the server's folder, whatever its name is."""
    client.hset("gearsync:{0}:wheels:people", "broken-1.0-py3-none-any.whl", "no wheel")
    deploy(client, tmp_path, version=2, wheels={"broken-1.0-py3-none-any.whl": ""})
    wait_for(lambda: (worker(client)["report"] or {}).get("state") == "failed", "the failure", 30)
    assert "pip could not install the requirements" in worker(client)["report"]["error"]
    assert (tmp_path / FOLDER / "gearsync-requirements" / "people").is_dir()
