"""gearsync verify: what differs is found and repaired, and lag is none of it."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from redis.crc import key_slot

from deploy.cli import group
from deploy.reaching.shards import Shard
from deploy.verifying import aliases, extras
from deploy.verifying.hashes import Hashes
from tests import hosts
from tests.cluster import Cluster
from tests.hosts import HOSTS
from tests.integration.command import until
from tests.integration.deploying import gearsync, redis_with_module, worker_environment, write
from tests.servers import RedisServer, run_sql

HEAD = """
from gears import ReadThrough, WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people")
reporting = Target("env:REPORTING_DB_URL", name="reporting")
persons = {"keys": "person:{person_id}", "table": "persons", "target": reporting}
columns = {"name": "name", "age": "age", "paid": "paid", "at": "seen"}
"""
PLAIN = HEAD + "WriteBehind(**persons, columns=columns)\n"
TABLE = """CREATE TABLE persons (person_id BIGINT PRIMARY KEY, name VARCHAR(64), age INTEGER DEFAULT 7,
    paid DECIMAL(10, 2), seen {timestamp})"""
KEYS = 2500


class World:
    """A server, of either host, whose worker brings hashes to a database."""

    def __init__(self, folder: Path, database: str, host: str = "module", text: str = PLAIN) -> None:
        self.folder, self.database = folder, database
        self.file = write(folder, text)
        kind = "DATETIME" if database.startswith("mysql") else "TIMESTAMP"
        run_sql(database, TABLE.format(timestamp=kind))
        self.server = hosts.server_of(host)
        self.url = self.server.url

    def deploy(self, text: str = "") -> None:
        if text:
            write(self.folder, text)
        done = gearsync("deploy", self.file, "--redis", self.url)
        assert done.returncode == 0, done.stderr

    def wait(self) -> None:
        assert gearsync("wait", "--redis", self.url).returncode == 0

    def verify(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Run a comparison to its end; return what it says of the only function."""
        # In this process: another Python takes longer than the comparison.
        done = CliRunner().invoke(group, ["verify", self.file, "--redis", self.url, "--json", *options])
        assert done.exit_code == code, done.output
        (found,) = json.loads(done.stdout)
        return dict(found)

    def sql(self, *statements: str) -> None:
        for each in statements:
            run_sql(self.database, each)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world of the database that a test names, by default SQLite; ``redisgears`` is one on that host."""
    kind = getattr(request, "param", "sqlite")
    database, host = ("sqlite", kind) if kind in HOSTS else (kind, "module")
    made = World(tmp_path, str(request.getfixturevalue(f"{database}_url")), host)
    for name, value in worker_environment(made.database).items():
        monkeypatch.setenv(name, value)
    with made.server:
        yield made


def fill(client: redis.Redis, count: int = KEYS) -> None:
    """Write hashes whose values are written in other ways than databases do."""
    with client.pipeline(transaction=False) as pipe:
        for number in range(count):
            fields: dict[Any, Any] = {
                "name": f"é{number}",
                "paid": f"{number}.5",
                "at": f"2024-01-31T10:00:{number % 60:02}",
            }
            pipe.hset(f"person:{number}", mapping=fields if number % 3 else {**fields, "age": f"0{number}"})
        pipe.execute()


def named(report: dict[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each["key"]: (each["kind"], tuple(each["columns"])) for each in report["differences"]}


PLANTED = {
    "person:1": ("missing", ()),
    "person:2": ("differs", ("name",)),
    "person:3": ("differs", ("age", "paid")),
    "person:4": ("differs", ("seen",)),
    "person:5": ("differs", ("age",)),
    "person:90001": ("extra", ()),
}


def plant(world: World) -> None:
    """Make the rows differ in each way."""
    world.sql(
        "DELETE FROM persons WHERE person_id = 1",
        "UPDATE persons SET name = NULL WHERE person_id = 2",
        "UPDATE persons SET paid = 1, age = NULL WHERE person_id = 3",
        "UPDATE persons SET seen = '2024-01-31 10:00:05' WHERE person_id = 4",
        # The field is absent: NULL and the default are as good, and this is neither.
        "UPDATE persons SET age = 8 WHERE person_id = 5",
        "UPDATE persons SET age = NULL WHERE person_id = 7",
        "INSERT INTO persons (person_id, name) VALUES (90001, 'x')",
    )


@pytest.mark.parametrize("world", ["postgres", "mariadb", "sqlite", "redisgears"], indirect=True)
def test_what_differs_is_found_and_repaired(world: World) -> None:
    world.deploy()
    with world.server.client() as client:
        fill(client)
    equal = world.verify()
    assert (equal["hashes"], equal["rows"], equal["left"]) == (KEYS, KEYS, 0)
    plant(world)
    found = world.verify(code=1)
    assert named(found) == PLANTED
    assert (found["missing"], found["extra"], found["differs"], found["left"]) == (1, 1, 4, 6)
    repaired = world.verify("--repair")
    assert (repaired["repaired"], repaired["left"]) == (6, 0)
    again = world.verify("--sample", "100")
    assert (again["missing"], again["extra"], again["differs"]) == (0, 0, 0)
    assert 0.02 < again["sample"]["keys_that_differ_at_most"] < 0.04


def test_lag_is_no_difference(world: World) -> None:
    world.deploy()
    over = threading.Event()
    with world.server.client() as client:
        fill(client)
        writer = threading.Thread(target=keep_writing, args=(world.server, over))
        writer.start()
        try:
            reports = [world.verify() for _ in range(3)]
            world.sql("UPDATE persons SET name = 'other' WHERE person_id = 1000")
            found = world.verify(code=1)
        finally:
            over.set()
            writer.join()
    assert [report["left"] for report in reports] == [0, 0, 0]
    assert sum(report["lagged"] for report in reports) > 0
    assert named(found) == {"person:1000": ("differs", ("name",))}


def keep_writing(server: RedisServer, over: threading.Event) -> None:
    """Write, shorten and delete all keys but one, in bursts."""
    dice = random.Random(1)
    with server.client() as client:
        while not over.wait(0.002):
            with client.pipeline(transaction=False) as pipe:
                for number in dice.sample([each for each in range(KEYS) if each != 1000], 40):
                    key, kind = f"person:{number}", dice.random()
                    if kind < 0.2:
                        pipe.delete(key)
                    elif kind < 0.4:
                        pipe.hdel(key, "age", "paid")
                    else:
                        pipe.hset(key, mapping={"name": str(dice.random()), "age": dice.randrange(99)})
                pipe.execute()


def test_rows_that_a_policy_keeps_are_no_difference(world: World) -> None:
    world.deploy(PLAIN.replace("columns=columns", 'columns=columns, on_expire="keep"'))
    with world.server.client() as client:
        fill(client, 20)
        world.wait()
        client.pexpire("person:3", 25)
        world.wait()
    report = world.verify("--repair")
    assert (report["kept"], report["extra"], report["left"]) == (1, 0, 0)
    assert report["kept_because"] == 'on_expire = "keep"'
    with world.server.client() as client:
        # Nor does a letter of its last write, which was refused, delete such a row.
        client.hset("person:4", "age", "old")
        world.wait()
        client.pexpire("person:4", 25)
        world.wait()
    done = CliRunner().invoke(group, ["deadletters", "retry", "--redis", world.url, "--all"])
    world.wait()
    assert (done.exit_code, "0 dead letters retried" in done.output) == (1, True)
    assert run_sql(world.database, "SELECT count(*) FROM persons WHERE person_id = 4") == [(1,)]
    assert world.verify("--repair", "--delete-extra")["repaired"] == 2
    assert world.verify()["kept"] == 0


def test_dead_letters_are_the_reason(world: World) -> None:
    world.deploy()
    with world.server.client() as client:
        client.hset("person:1", mapping={"name": "Ada", "age": "old"})
        client.hset("person:007", "name", "other name of 7")
        world.wait()
        report = world.verify("--repair", code=1)
    (difference,) = report["differences"]
    assert (difference["key"], difference["kind"], difference["repaired"]) == ("person:1", "missing", False)
    assert difference["reason"].startswith("dead letter: column age: the value is no whole number")


BUCKETS = HEAD + 'WriteBehind(keys="b:{sensor}:{at}", table="buckets", columns=["value"], target=reporting)\n'


def test_rows_whose_own_keys_would_have_colons(world: World) -> None:
    """The key has seconds since 1970, since no part of one holds a colon, and its row a timestamp."""
    world.sql("CREATE TABLE buckets (sensor VARCHAR(9), at TIMESTAMP, value TEXT, PRIMARY KEY (sensor, at))")
    world.deploy(BUCKETS)
    with world.server.client() as client:
        client.hset("b:x:1706695200", "value", "1")
        client.hset("b:x:1706695201.5", "value", "2")
        world.wait()
        report = world.verify()
        assert (report["hashes"], report["rows"], report["left"]) == (2, 2, 0)
        world.sql("INSERT INTO buckets VALUES ('x', '2024-01-31 10:00:09.000000', '3')")
        report = world.verify(code=1)
        assert (report["extra"], report["unkeyed"]) == (1, 1)
        assert report["differences"][0]["row"] == {"sensor": "x", "at": "2024-01-31T10:00:09"}
        # In a sample nobody knows which key a row would have.
        report = world.verify("--sample", "10")
        assert (report["hashes"], report["rows"], report["extra"]) == (2, 0, 0)
        assert "extra rows were not looked for" in report["notes"][0]


PRICES = HEAD + 'WriteBehind(keys="p:{price}:{span}", table="prices", columns=["name"], target=reporting)\n'


@pytest.mark.parametrize("world", ["postgres"], indirect=True)
def test_rows_whose_own_keys_are_written_otherwise(world: World) -> None:
    """A repair must not delete the row 1.50 of the key 1.5."""
    world.sql(
        "CREATE TABLE prices (price NUMERIC(9, 2), span INT4RANGE, name TEXT, PRIMARY KEY (price, span))"
    )
    world.deploy(PRICES)
    with world.server.client() as client:
        client.hset("p:1.5:[1,2]", "name", "a")
        client.hset("p:2.50:[1,3)", "name", "b")
        client.hset("p:infinity:[1,3)", "name", "no number")
        world.wait()
        report = world.verify("--repair", code=1)
    assert (report["rows"], report["extra"], report["missing"]) == (2, 0, 1)
    assert run_sql(world.database, "SELECT price::text, span::text FROM prices ORDER BY 1") == [
        ("1.50", "[1,3)"),
        ("2.50", "[1,3)"),
    ]


TRANSFORMED = (
    HEAD
    + """
def shout(change):
    if change.fields.get("name") == "drop":
        return None
    change.fields["name"] = change.fields.get("name", "").upper()
    return change


WriteBehind(**persons, columns=columns, transform=shout)
"""
)


def test_transforms_are_applied(world: World) -> None:
    world.deploy(TRANSFORMED)
    with world.server.client() as client:
        for number, name in enumerate(("ada", "bob", "drop")):
            client.hset(f"person:{number}", "name", name)
        world.wait()
    assert world.verify()["left"] == 0
    world.sql("UPDATE persons SET name = 'bob' WHERE person_id = 1")
    assert named(world.verify(code=1)) == {"person:1": ("differs", ("name",))}


def test_hashes_of_rows_are_compared_and_not_repaired(world: World) -> None:
    world.deploy(HEAD + "ReadThrough(**persons, columns=columns)\n")
    world.sql(
        "INSERT INTO persons (person_id, name) VALUES (1, 'Ada')",
        "INSERT INTO persons VALUES (2, 'b', 1, 2, NULL)",
    )
    with world.server.client() as client:
        client.exists("person:1")
        world.sql("UPDATE persons SET name = 'Eve' WHERE person_id = 1")
        report = world.verify("--timeout", "10", code=1)
        assert client.pttl("person:2") == -2
    assert named(report) == {"person:1": ("differs", ("name",))}
    done = gearsync("verify", world.file, "--redis", world.server.url, "--repair")
    assert done.returncode == 1
    assert "nothing brings its hashes to SQL" in done.stderr


def test_a_cluster(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, sqlite_url)
    for name, value in worker_environment(sqlite_url).items():
        monkeypatch.setenv(name, value)
    with Cluster(redis_with_module) as cluster, cluster.client() as client:
        world.url = cluster.nodes[0].url
        world.deploy()
        for number in range(90):
            client.hset(f"person:{number}", "name", str(number))
        slot = key_slot(b"person:2")
        # The slot is between two shards, and the key is at the new one already.
        source, target = cluster.owner(slot), (cluster.owner(slot) + 1) % 3
        cluster.open_slot(slot, source, target)
        assert cluster.move_keys(slot, source, target) == 1
        assert (world.verify()["hashes"], world.verify()["left"]) == (90, 0)
        world.sql(
            "DELETE FROM persons WHERE person_id IN (1, 2)", "INSERT INTO persons (person_id) VALUES (900)"
        )
        found = world.verify("--repair")
        assert (found["missing"], found["extra"], found["repaired"], found["left"]) == (2, 1, 3, 0)
        # A key that goes from a shard that is still to be looked through to one that was.
        cluster.close_slot(slot, target)
        first, *_, last = sorted(range(3), key=lambda number: cluster.nodes[number].port)
        number = next(each for each in range(90) if cluster.owner(f"person:{each}") == last)
        world.sql(f"DELETE FROM persons WHERE person_id = {number}")
        keys = Hashes.keys

        def behind_a_move(self: Hashes, shard: Shard) -> Iterator[list[bytes]]:
            if shard.address.endswith(f":{cluster.nodes[last].port}"):
                cluster.move_slot(key_slot(f"person:{number}".encode()), first)
            return keys(self, shard)

        monkeypatch.setattr(Hashes, "keys", behind_a_move)
        assert named(world.verify(code=1)) == {f"person:{number}": ("missing", ())}


def test_rows_of_keys_that_are_written_otherwise_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such keys may come when all have been looked through, and be more than can be remembered."""
    monkeypatch.setattr(aliases, "MOST", 1)
    pages = extras.Pages.__iter__
    world.deploy()
    with world.server.client() as client:
        for number in range(3):
            client.hset(f"person:00{number}", "name", "Ada")

        def later(self: extras.Pages) -> Any:
            client.hset("person:009", "name", "late")
            world.sql("INSERT INTO persons (person_id) VALUES (8)")
            world.wait()
            return pages(self)

        monkeypatch.setattr(extras.Pages, "__iter__", later)
        found = world.verify("--repair")
        assert named(found) == {"person:8": ("extra", ())}
        assert (found["extra"], found["repaired"], found["left"]) == (1, 1, 0)
    assert run_sql(world.database, "SELECT count(*) FROM persons") == [(4,)]


def test_a_key_that_comes_while_its_row_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy()
    recapture = Hashes.recapture
    with world.server.client() as client:
        client.hset("person:1", "name", "Ada")
        world.wait()
        world.sql("INSERT INTO persons (person_id) VALUES (8)")

        def after_a_write(self: Hashes, deployment: str, keys: Any) -> int:
            if keys == [b"person:8"]:
                client.hset("person:008", "name", "late")
                world.wait()
            return recapture(self, deployment, keys)

        monkeypatch.setattr(Hashes, "recapture", after_a_write)
        world.verify("--repair")
        world.wait()
    assert run_sql(world.database, "SELECT name FROM persons WHERE person_id = 8") == [("late",)]


SHARED = """
def moved(change):
    if change.op != "delete":
        change.fields["name"] = "moved"
    change.primary_key["person_id"] = str(int(change.primary_key["person_id"]) + 100)
    return change


WriteBehind(**persons, columns=["name"])
WriteBehind(keys="tag:{tag}", table="tags", target=reporting, columns=["name"], name="tags")
WriteBehind(keys="late:{person_id}", table="persons", target=reporting, columns=["name"], name="late")
WriteBehind(
    keys="moved:{person_id}",
    table="persons",
    target=reporting,
    columns=["name"],
    transform=moved,
    name="moved",
)
"""


def test_rows_of_other_functions_stay(world: World) -> None:
    """However these write their keys, and whatever deployments they are of."""
    other = write(world.folder, ELSEWHERE, "other.py")
    world.sql("CREATE TABLE tags (tag TEXT COLLATE NOCASE PRIMARY KEY, name TEXT)")
    world.sql("INSERT INTO tags (tag) VALUES ('ann')")
    world.deploy(HEAD + SHARED)
    assert gearsync("deploy", other, "--redis", world.url, "--yes").returncode == 0
    with world.server.client() as client:
        client.hset("person:1", "name", "Ada")
        client.hset("late:002", "name", "b")
        client.hset("moved:3", "name", "c")
        client.hset("elsewhere:4", "age", 4)
        client.hset("tag:ANN", "name", "e")
        world.wait()
        world.sql("INSERT INTO persons (person_id) VALUES (8)")
        assert list(named(world.verify("--repair", "--function", "persons"))) == ["person:8"]
        assert named(world.verify("--repair", "--function", "tags")) == {}
        world.wait()
    kept = run_sql(world.database, "SELECT person_id FROM persons ORDER BY 1")
    assert kept == [(1,), (2,), (4,), (103,)]
    assert run_sql(world.database, "SELECT tag, name FROM tags") == [("ann", "e")]


ELSEWHERE = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="elsewhere")
WriteBehind(
    keys="elsewhere:{person_id}",
    table="persons",
    target=Target("env:REPORTING_DB_URL", name="ages"),
    columns=["age"],
)
"""

ARCHIVED = """
WriteBehind(**persons, columns=["name"])
WriteBehind(
    keys="person:{person_id}", table="archive", target=reporting, columns=["name"], on_expire="keep"
)
"""


def test_a_row_that_a_policy_keeps_in_another_table_of_the_key(world: World) -> None:
    """To capture the key as deleted would take it along."""
    world.sql("CREATE TABLE archive (person_id BIGINT PRIMARY KEY, name VARCHAR(64))")
    world.deploy(HEAD + ARCHIVED)
    with world.server.client() as client:
        client.hset("person:1", "name", "Ada")
        world.wait()
        client.pexpire("person:1", 20)
        until(lambda: not client.exists("person:1"))
        world.wait()
    world.sql("INSERT INTO persons (person_id) VALUES (1)")
    found = world.verify("--repair", "--function", "persons", code=1)
    assert (found["extra"], found["repaired"]) == (1, 0)
    assert "archive" in found["differences"][0]["reason"]
    assert run_sql(world.database, "SELECT count(*) FROM archive") == [(1,)]
    world.verify("--repair", "--delete-extra", "--function", "persons")
    assert run_sql(world.database, "SELECT count(*) FROM archive") == [(0,)]


def test_a_repair_of_more_keys_than_may_wait_leaves_room_for_clients(world: World) -> None:
    bound = 'name="people", backlog={"entries": 40}, interval_ms=300'
    world.deploy(PLAIN.replace('name="people"', bound))
    with world.server.client() as client:
        for start in range(0, 200, 20):
            for number in range(start, start + 20):
                client.hset(f"person:{number}", "name", "some")
            world.wait()
        world.sql("DELETE FROM persons WHERE person_id >= 50")
        report = world.verify("--repair")
        assert report["repaired"] == 150
        status = json.loads(client.execute_command("GEARSYNC.STATUS"))["deployments"][0]
        assert status["refused_writes"] == 0
