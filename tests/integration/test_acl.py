"""The users of docs/operations.md: each can do its work with the rights given there, and no more."""

from __future__ import annotations

import re
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.command import Process, gearsync, until
from tests.integration.deploying import ROOT, write
from tests.sanitizers import module_path
from tests.servers import RedisServer

OUTSIDE = """
from connectors import Target
from gears import ReadThrough, WriteAround, WriteBehind, deployment_settings

deployment_settings(name="outside", worker="external")
target = Target("sqlite:///{database}")
WriteBehind(keys="person:b:{{id}}", table="behind", columns=["name"], target=target, operations={operations})
ReadThrough(keys="person:r:{{id}}", table="read", columns=["name"], target=target, ttl=600)
WriteAround(keys="person:a:{{id}}", table="around", columns=["name"], target=target, on_change="refresh")
"""
INSIDE = """
from connectors import Target
from gears import WriteThrough, deployment_settings

deployment_settings(name="inside")
WriteThrough(keys="person:t:{{id}}", table="through", columns=["name"], target=Target("sqlite:///{database}"))
"""
TABLES = ("behind", "through", "read", "around")


def lines() -> list[list[str]]:
    """Return the words of each line of the page's code block."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    [block] = re.findall(r"```acl\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


class World:
    """A Redis that only the users of the page may use, and a SQLite database."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder, self.server = folder, server
        self.database = folder / "reporting.db"
        self.admin = server.client(username="admin", password="admin-password")
        #: Refusals that the tests ask for, as Redis logs them.
        self.meant: set[tuple[str, str]] = set()
        version: Any = self.admin.info("server")["redis_version"]
        #: Whether the server can tell clients, which WriteBehind's operations need.
        self.tells = tuple(map(int, version.split(".")[:2])) >= (7, 2)
        for table in TABLES:
            self.sql(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, name TEXT)")

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(self.database) as connection:
            found: list[tuple[str, ...]] = connection.execute(statement).fetchall()
        connection.close()
        return found

    def names(self, table: str) -> list[str]:
        return [name for [name] in self.sql(f"SELECT name FROM {table} ORDER BY id")]

    def url(self, user: str) -> str:
        return f"redis://{user}:{user}-password@127.0.0.1:{self.server.port}"

    def client(self, user: str) -> redis.Redis:
        return self.server.client(username=user, password=f"{user}-password", decode_responses=True)

    def run(self, user: str, *arguments: str) -> str:
        done = gearsync(*arguments, GEARSYNC_REDIS=self.url(user))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, text: str, seconds: str) -> None:
        text = text.format(database=self.database, operations=self.tells)
        self.file = write(self.folder, text)
        self.run("deployer", "deploy", self.file, "--yes", "--timeout", seconds)

    def refused(self, user: str, *command: str) -> None:
        self.meant |= {(user, command[0].lower()), (user, command[1] if len(command) > 1 else "")}
        with self.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("acl")
    reached = folder / "worker.url"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        arguments = ["PYTHON", sys.executable, "URL", f"file:{reached}"]
        with RedisServer(module=module_path(), module_arguments=arguments) as server:
            with server.client() as first:
                first.execute_command("ACL", "SETUSER", "admin", "on", ">admin-password", "~*", "&*", "+@all")
                users, more = lines()[:5], lines()[5:]
                for words in users:
                    first.execute_command(*words)
            world = World(folder, server)
            world.refused("worker", "HGET", "person:b:1", "name")
            for words in more:
                world.admin.execute_command(*words)
            reached.write_text(world.url("worker") + "\n")
            world.admin.execute_command("ACL", "SETUSER", "default", "off")
            world.deploy(INSIDE, "30")
            world.deploy(OUTSIDE, "0.1")
            world.run("deployer", "triggers", world.file, "--apply")
            process = Process(folder / "worker.log", "worker", GEARSYNC_REDIS=world.url("worker"))
            yield world
            log: Any = world.admin.acl_log(100)
            # redis-py tells its name by CLIENT SETINFO, and goes on without it: Redis 6.2 has it not.
            denied = {(each["username"], each["object"]) for each in log if each["object"] != "client"}
            assert denied <= world.meant
            process.end()
            world.admin.execute_command("ACL", "SETUSER", "default", "on", "nopass")
            world.admin.close()


def test_the_application_writes_and_the_workers_bring_it_to_sql(world: World) -> None:
    world.sql("INSERT INTO read VALUES ('1', 'Noor')")
    with world.client("shop") as shop:
        shop.hset("person:b:1", mapping={"name": "Ann", **({"#": "=ticket"} if world.tells else {})})
        shop.hset("person:t:1", "name", "Bea")
        assert world.names("through") == ["Bea"]
        assert shop.hget("person:r:1", "name") == "Noor"
        until(lambda: world.names("behind") == ["Ann"], 30)
        if world.tells:
            until(lambda: shop.xlen("{person:b:1}ticket") == 1, 30)
        world.sql("INSERT INTO around VALUES ('1', 'Dan')")
        until(lambda: shop.hget("person:a:1", "name") == "Dan", 30)
    world.refused("shop", "XRANGE", "gearsync:{0}:registry", "-", "+")
    world.refused("shop", "GEARSYNC.IMAGES", "0", "-1", "other:1")
    world.refused("shop", "GEARSYNC.STATUS")
    world.refused("worker", "HGET", "other:1", "name")
    world.refused("worker", "GEARSYNC.DEPLOY", "outside", "2")


def test_the_deployer_deploys_and_reads_no_rows(world: World) -> None:
    world.run("deployer", "pause", "outside", "--reason", "a test")
    world.run("deployer", "resume", "outside")
    world.refused("deployer", "HGET", "person:b:1", "name")
    world.refused("deployer", "XRANGE", "gearsync:x", "-", "+")


def test_the_monitor_looks_and_changes_nothing(world: World) -> None:
    assert "outside" in world.run("monitor", "status")
    assert "gearsync_shard_up" in world.run("monitor", "metrics", "--once")
    world.run("monitor", "deadletters", "list")
    world.run("monitor", "wait", "--timeout", "30")
    world.refused("monitor", "GEARSYNC.PAUSE", "outside", "me", "why")
    world.refused("monitor", "XDEL", "gearsync:x", "1-1")
    world.refused("monitor", "HGET", "person:b:1", "name")


def test_the_mover_backfills_loads_and_verifies(world: World) -> None:
    with world.client("shop") as shop:
        shop.hset("person:b:1", "name", "Ann")
    world.run("monitor", "wait", "--timeout", "30")
    world.sql("DELETE FROM behind")
    world.run("mover", "verify", world.file, "--repair")
    until(lambda: world.names("behind") == ["Ann"], 30)
    world.sql("DELETE FROM behind")
    world.run("mover", "backfill", world.file)
    until(lambda: world.names("behind") == ["Ann"], 30)
    world.run("mover", "load", world.file)
    world.refused("mover", "GEARSYNC.DEPLOY", "outside", "2")
    world.refused("mover", "HGET", "other:1", "name")


def test_who_has_all_commands_but_not_our_keys_deploys_nothing_and_touches_no_other_keys(
    world: World,
) -> None:
    """`+@all -@dangerous ~app:*` is how many give an application its rights. Redis asks for no key here."""
    version: Any = world.admin.info("server")["redis_version"]
    if int(version.split(".")[0]) < 7:
        pytest.skip("Redis 6.2 tells modules nothing about rights")
    world.admin.hset("secret:1", "name", "Ada")
    rights = ("on", ">app-password", "~app:*", "+@all", "-@dangerous", "-@admin")
    world.admin.execute_command("ACL", "SETUSER", "app", *rights)
    commands = [
        ["GEARSYNC.DEPLOY", "inside", "99"],
        ["GEARSYNC.UNDEPLOY", "inside", "DISCARD"],
        ["GEARSYNC.PAUSE", "inside"],
        ["GEARSYNC.RESUME", "inside"],
        ["GEARSYNC.EPOCH", "999999"],
        ["GEARSYNC.IMAGES", "0", "-1", "secret:1"],
        ["GEARSYNC.PUT", "inside", "0", "REPLACE", "0", "1", "secret:1", "1", "name", "Eve"],
        ["GEARSYNC.HEARTBEAT", "inside", "me", "{}"],
        ["GEARSYNC.MISSES", "inside", "1", "t", "1", "1"],
        ["GEARSYNC.LOADED", "inside", "t", "0"],
        ["GEARSYNC.UNREAD", "inside", "t", "no"],
        ["GEARSYNC.TAKE", "lane", "1-1", "me"],
        ["GEARSYNC.SETTLE", "lane", "1-1", "me"],
        ["GEARSYNC.DENY", "lane", "no"],
        ["GEARSYNC.REDO", "lane", "1", "1-1", "me", "1-1", "0 *1\r\n$8\r\nFLUSHALL\r\n", ""],
    ]
    with world.client("app") as client:
        for command in commands:
            with pytest.raises(redis.exceptions.NoPermissionError, match="HSET on the keys gearsync"):
                client.execute_command(*command)
            with pytest.raises(redis.exceptions.ResponseError, match="not for scripts"):
                client.eval("return redis.call(unpack(ARGV))", 0, *command)
        assert client.execute_command("GEARSYNC.EPOCH")
    assert world.admin.hget("secret:1", "name") == b"Ada"
