"""Passwords stay out of everything that is stored, said or shown: one server, and all its outputs searched.

The passwords are drawn anew for each run, and are searched for as they are and as they stand in URLs.
"""

from __future__ import annotations

import json
import secrets
import signal
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.integration.command import Process, gearsync, until
from tests.integration.deploying import ROOT, write
from tests.integration.module.driving import debug_options
from tests.sanitizers import are_asked_for, module_path
from tests.servers import RedisServer, Server, free_port

FUNCTIONS = """
from connectors import Target
from gears import ReadThrough, WriteBehind, deployment_settings

deployment_settings(name="shop")
kept = Target("file:{folder}/kept.url")
WriteBehind(keys="person:{{id}}", table="persons", columns={{"name": "name", "age": "age"}}, target=kept)
WriteBehind(keys="order:{{id}}", table="orders", columns=["name"], target=Target("env:AWAY_PG"))
WriteBehind(keys="item:{{id}}", table="items", columns=["name"], target=Target("file:{folder}/mysql.url"))
WriteBehind(keys="part:{{id}}", table="parts", columns=["name"], target=Target("env:BROKEN"))
ReadThrough(keys="cached:{{id}}", table="cached", columns=["name"], ttl=60, timeout_ms=200,
    target=Target("env:AWAY_PG"))
"""


class World:
    """A Redis with a password, a database that works and some that do not, and what they all said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: By what it is for: with characters that a URL has to write in another way.
        self.passwords = {
            name: f"{secrets.token_hex(8)}@{secrets.token_hex(8)}" for name in ("redis", "pg", "my", "odd")
        }
        quoted = {name: text.replace("@", "%40") for name, text in self.passwords.items()}
        away = free_port()
        self.variables = {
            "AWAY_PG": f"postgresql://sync:{quoted['pg']}@127.0.0.1:{away}/shop?connect_timeout=2",
            # No port at all: what a parser says of it quotes a part of the text.
            "BROKEN": f"postgresql://sync:{quoted['odd']}@127.0.0.1:not-a-port/shop",
        }
        (folder / "kept.url").write_text(f"sqlite:///{folder}/kept.db")
        (folder / "mysql.url").write_text(
            f"mysql://sync:{quoted['my']}@127.0.0.1:{away}/shop?connect_timeout=2"
        )
        with closing(sqlite3.connect(folder / "kept.db")) as database:
            database.execute("CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
        options = (
            "--appendonly",
            "yes",
            "--save",
            "3600 1",
            "--slowlog-log-slower-than",
            "0",
            "--slowlog-max-len",
            "9999",
        )
        self.server = RedisServer(
            *options,
            *debug_options(),
            module=module_path(),
            module_arguments=("PYTHON", sys.executable),
        )
        self.url = f"redis://:{quoted['redis']}@127.0.0.1:{self.server.port}"
        self.said: dict[str, str] = {}

    def client(self) -> redis.Redis:
        return self.server.client(password=self.passwords["redis"])

    def protect(self) -> None:
        """Ask for the password from now on: the test server itself is started and looked at without one."""
        with self.server.client() as client:
            client.config_set("requirepass", self.passwords["redis"])

    def run(self, name: str, *arguments: str, **variables: str) -> None:
        """Run a command that may fail, and keep all it says."""
        given: dict[str, Any] = {**self.variables, "GEARSYNC_REDIS": self.url, **variables}
        done = gearsync(*arguments, **given)
        assert "Traceback" not in done.stderr, (name, done.stderr)
        self.said[name] = done.stdout + done.stderr

    def found(self, text: str | bytes) -> list[str]:
        """Return whose passwords are in a text, whole or the greater part of them."""
        if isinstance(text, str):
            text = text.encode("utf-8", "replace")
        return [
            name
            for name, password in self.passwords.items()
            if any(part.encode() in text for part in password.split("@"))
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        world = World(tmp_path_factory.mktemp("secrets"))
        for name, value in world.variables.items():
            patch.setenv(name, value)
        world.server.start()
        try:
            world.protect()
            _use(world)
            yield world
        finally:
            # Not RedisServer's, which takes a crash for a fault: the last test makes one.
            Server.stop(world.server)


def _use(world: World) -> None:
    """Deploy, write, fail: everything that says something."""
    path = write(world.folder, FUNCTIONS.format(folder=world.folder))
    # The databases that are away keep check from passing; what they say is what is looked for.
    world.run("check", "check", path)
    world.run("deploy", "deploy", path, "--offline", "--timeout", "3")
    with world.client() as client:
        assert client.execute_command("GEARSYNC.DEPLOYMENTS"), world.said
        client.hset("person:1", mapping={"name": "Ada", "age": "36"})
        client.hset("person:2", mapping={"name": "Eve", "age": "no number"})
        for key in ("order:1", "item:1", "part:1"):
            client.hset(key, "name", "x")
        with pytest.raises(redis.ResponseError, match="READTHROUGH"):
            client.hget("cached:1", "name")

        def targets() -> dict[str, Any]:
            report = json.loads(client.execute_command("GEARSYNC.STATUS"))["deployments"][0]["worker"][
                "report"
            ]
            return dict((report or {}).get("targets", {}))

        until(lambda: len(targets()) == 4 and targets()["kept"]["dead_letters"] == 1)
        until(lambda: all(each["last_error"] for name, each in targets().items() if name != "kept"))


COMMANDS: dict[str, list[str]] = {
    "status as JSON": ["status", "--json"],
    "dead letters": ["deadletters", "list", "--json"],
    "doctor": ["doctor", "functions.py"],
    "verify": ["verify", "functions.py"],
    "wait": ["wait", "--timeout", "0.2"],
}


def test_nothing_that_is_said_has_a_password(world: World) -> None:
    """The command line, also where a connection fails: each driver's own exceptions could carry the URL."""
    wrong = world.url.replace(f":{world.server.port}", f":{free_port()}")
    file = str(world.folder / "functions.py")
    calls: list[Callable[[], None]] = [
        lambda name=name, words=words: world.run(
            name, *(file if each == "functions.py" else each for each in words)
        )  # type: ignore[misc]
        for name, words in COMMANDS.items()
    ]
    calls += [
        lambda: world.run("no Redis there", "status", GEARSYNC_REDIS=wrong),
        lambda: world.run(
            "no TLS there", "status", GEARSYNC_REDIS=world.url.replace("redis://", "rediss://")
        ),
        lambda: world.run("a broken URL of Redis", "status", GEARSYNC_REDIS=f"{world.url}x/y?z"),
        lambda: world.run("init", "init", world.variables["AWAY_PG"]),
        lambda: world.run("init of a broken URL", "init", world.variables["BROKEN"]),
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda call: call(), calls))
    assert {name: text for name, text in world.said.items() if world.found(text)} == {}
    assert all(world.said.values())


def test_nothing_that_redis_tells_has_a_password(world: World) -> None:
    with world.client() as client:
        commands = [
            ["GEARSYNC.STATUS"],
            ["GEARSYNC.DEPLOYMENTS"],
            ["GEARSYNC.VERSIONS", "shop"],
            ["GEARSYNC.LANES", "shop"],
            ["INFO", "everything"],
            ["SLOWLOG", "GET", "-1"],
            ["MODULE", "LIST"],
            ["CLIENT", "LIST"],
            ["ACL", "LOG"],
        ]
        told = {" ".join(words): repr(client.execute_command(*words)) for words in commands}
        told |= {repr(key): repr(client.dump(key)) for key in client.keys("gearsync:*")}
    assert {name: world.found(text) for name, text in told.items() if world.found(text)} == {}
    assert "gearsync" in told["INFO everything"] and "HSET" in told["SLOWLOG GET -1"].upper()


def test_no_page_has_a_password(world: World) -> None:
    """The dashboard and the metrics, which others read who may not read Redis."""
    at = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    variables = {"GEARSYNC_REDIS": world.url, **world.variables}
    paths = {at[0]: ("", "api/figures", "api/letters"), at[1]: ("metrics",)}
    commands = [
        Process(world.folder / "dashboard.log", "dashboard", "--listen", at[0], **variables),
        Process(world.folder / "metrics.log", "metrics", "--listen", at[1], **variables),
    ]
    try:
        for command in commands:
            until(lambda command=command: "http" in command.text())  # type: ignore[misc]
        pages = {f"{where}/{path}": _page(f"http://{where}/{path}") for where in at for path in paths[where]}
    finally:
        for command in commands:
            command.end()
    assert {name for name, text in pages.items() if world.found(text)} == set()
    assert not any(world.found(command.text()) for command in commands)
    assert any(b"gearsync_" in text for text in pages.values())


def _page(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


def test_no_process_shows_a_password(world: World) -> None:
    """Arguments are for all users of the machine to read. The environment is as it was given."""
    processes = [psutil.Process(world.server.pid), *psutil.Process(world.server.pid).children(recursive=True)]
    assert len(processes) >= 2, "the server and its worker"
    assert [each.pid for each in processes if world.found(" ".join(each.cmdline()))] == []
    shown = {name for each in processes for name in world.found(repr(each.environ()))}
    # What env: names has to be there; what file: names and requirepass are not.
    assert shown == {"pg", "odd"}


def test_nothing_that_is_stored_has_a_password(world: World) -> None:
    """The last of all, since the server is brought to fall: its report of a crash goes to the log."""
    with world.client() as client:
        client.save()
    files = [each for each in Path(world.server.directory).rglob("*") if each.is_file()]
    assert any(each.suffix == ".rdb" for each in files) and any("aof" in each.name for each in files)
    if not are_asked_for():
        process = psutil.Process(world.server.pid)
        workers = process.children(recursive=True)
        process.send_signal(signal.SIGSEGV)
        process.wait(20)
        psutil.wait_procs(workers, 20)
        assert "STACK TRACE" in world.server.log_text()
    assert {
        each.name: world.found(each.read_bytes()) for each in files if world.found(each.read_bytes())
    } == {}
    assert world.found(world.server.log_text()) == []
    assert "trying again" in world.server.log_text()
