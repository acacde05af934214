"""gearsync load, as a process: Redis is filled from a table, and what is newer there stays."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from connectors import connect as connect_database
from deploy.loading.putting import Putter
from deploy.reaching import shards
from deploy.reaching.connections import same_server
from deploy.sources import choose
from gears.applying.images import RowReader
from tests.cluster import Cluster
from tests.integration import deployed
from tests.integration.command import Process, gearsync, until
from tests.integration.deploying import write
from tests.servers import run_sql

READ = """
from gears import ReadThrough, WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people", worker="external")
reporting = Target("env:REPORTING_DB_URL", name="reporting")

ReadThrough(
    keys="person:{person_id}",
    table="persons",
    columns={"first_name": "first", "age": "age"},
    target=reporting,
    ttl=600,
)
"""
BEHIND = """
WriteBehind(
    keys="person:{person_id}",
    table="persons",
    columns={"first_name": "first", "age": "age"},
    target=reporting,
    on_expire="keep",
)
"""
TWO = BEHIND + BEHIND.replace("table=", 'name="two", table=').replace("person:", "p:")
AROUND = """
from gears import WriteAround
WriteAround(keys="p:{person_id}", table="persons", target=reporting)
"""
PERSONS = "CREATE TABLE persons (person_id INT PRIMARY KEY, first VARCHAR(64), age INT)"


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with deployed.server() as server, server.client() as client:
        yield client


class World:
    """A database with the table of persons, and a file of functions deployed on ``url``."""

    def __init__(self, folder: Path, database: str, url: str, text: str = READ) -> None:
        self.folder, self.database, self.url = folder, database, url
        self.file = write(folder, text)

    def deploy(self) -> None:
        done = self.run("deploy", "--timeout", "0.1")
        assert done.returncode == 0, done.stderr

    def load(self, *options: str, code: int = 0) -> Any:
        """Run a load to its end; return its JSON, or of one that fails what it says."""
        done = self.run("load", "--json", *options)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    def start(self, *options: str) -> Process:
        """Begin a load in the background."""
        command = ["load", self.file, "--redis", self.url, *options]
        return Process(self.folder / "load.log", *command, REPORTING_DB_URL=self.database)

    def run(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a command of gearsync to its end."""
        return gearsync(name, self.file, "--redis", self.url, *options, REPORTING_DB_URL=self.database)


def address(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


def there(client: redis.Redis, key: str | bytes) -> bool:
    """Whether there is a key; EXISTS would load a row of it."""
    return bool(client.pttl(key) != -2)


def fields(client: redis.Redis, key: str | bytes) -> dict[bytes, bytes]:
    """Return a hash that is there. Before Redis 7 what passes a module is a list, whatever the protocol."""
    found: Any = client.hgetall(key)
    return dict(zip(found[::2], found[1::2])) if isinstance(found, list) else found


def fill(database: str, count: int) -> None:
    """Write the persons 1 to ``count``."""
    for start in range(1, count + 1, 1000):
        values = ", ".join(f"({i}, 'f{i}', {i % 90})" for i in range(start, min(start + 1000, count + 1)))
        run_sql(database, f"INSERT INTO persons VALUES {values}")


@pytest.fixture
def world(tmp_path: Path, sqlite_url: str, client: redis.Redis) -> World:
    """Read-through functions over an empty table in SQLite."""
    run_sql(sqlite_url, PERSONS)
    made = World(tmp_path, sqlite_url, address(client))
    made.deploy()
    return made


def rows_of(report: Any) -> dict[str, int]:
    """Return the counts of a report that are not 0."""
    names = ("read", "set", "there", "waiting", "gone", "empty", "unkeyed")
    return {name: report[name] for name in names if report[name]}


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_every_row_becomes_a_hash_and_no_change(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, client: redis.Redis
) -> None:
    database = str(request.getfixturevalue(f"{kind}_url"))
    run_sql(database, PERSONS)
    fill(database, 2500)
    run_sql(database, "UPDATE persons SET age = NULL WHERE person_id = 7")
    world = World(tmp_path, database, address(client), READ + BEHIND)
    world.deploy()
    report = world.load()
    assert rows_of(report) == {"read": 2500, "set": 2500}
    assert report["finished"] is True
    assert fields(client, "person:2500") == {b"first_name": b"f2500", b"age": b"70"}
    assert fields(client, "person:7") == {b"first_name": b"f7"}
    assert 500 < client.ttl("person:7") <= 600
    assert len(list(client.scan_iter("person:*", count=1000))) == 2500
    assert deployed.changes(client) == []
    assert not there(client, "gearsync:{0}:load:people:persons read-through")
    assert rows_of(world.load()) == {"read": 2500, "there": 2500}


def test_what_it_says(world: World, client: redis.Redis) -> None:
    fill(world.database, 3)
    client.hset("person:2", "first_name", "newer")
    run_sql(world.database, "INSERT INTO persons VALUES (4, NULL, NULL)")
    done = world.run("load")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 rows read (") and lines[0].endswith("/s), 2 hashes set.")
    assert lines[1:] == [
        "  1 row in Redis already, left alone",
        "  1 row with NULL in all columns, which no hash can be",
    ]
    assert fields(client, "person:2") == {b"first_name": b"newer"}
    assert not there(client, "person:4")


def test_a_change_on_its_way_to_sql_is_waited_for(
    tmp_path: Path, sqlite_url: str, client: redis.Redis
) -> None:
    """A key that was deleted must not come back by its old row; one that was not set yet gets its new one."""
    run_sql(sqlite_url, PERSONS)
    world = World(tmp_path, sqlite_url, address(client), READ + BEHIND)
    world.deploy()
    # From now on the keys that have changes are told apart.
    world.load()
    fill(sqlite_url, 5)
    for key in ("person:1", "person:2"):
        client.hset(key, "first_name", "newer")
        client.delete(key)
    process = world.start("--json")
    until(lambda: there(client, "person:5"))
    assert not there(client, "person:1")
    # What the worker would do: the changes go to SQL, then they leave the lane.
    run_sql(sqlite_url, "DELETE FROM persons WHERE person_id = 1")
    run_sql(sqlite_url, "UPDATE persons SET first = 'of SQL' WHERE person_id = 2")
    deployed.apply_all(client)
    assert process.process.wait(60) == 0
    assert rows_of(json.loads(process.text())) == {"read": 5, "set": 4, "gone": 1}
    assert not there(client, "person:1")
    assert client.hget("person:2", "first_name") == b"of SQL"


def test_a_kill_in_the_middle_and_on(world: World, client: redis.Redis) -> None:
    fill(world.database, 9000)
    process = world.start("--rate", "3000")
    until(lambda: there(client, "person:3000"))
    process.end(signal.SIGKILL)
    client.delete("person:1")
    done = world.run("load", "--json")
    assert "Going on after the" in done.stderr
    report = json.loads(done.stdout)
    # The page in hand when it was killed came twice.
    assert report["read"] == report["set"] + report["there"] == 9000
    assert report["there"] in (0, 1000)
    assert there(client, "person:9000")
    # It did not begin anew.
    assert not there(client, "person:1")
    assert rows_of(world.load()) == {"read": 9000, "set": 1, "there": 8999}


def test_an_interrupt_says_how_to_go_on(world: World, client: redis.Redis) -> None:
    fill(world.database, 5000)
    process = world.start("--rate", "1000")
    until(lambda: there(client, "person:1000"))
    assert process.end(signal.SIGINT) == 1
    assert "interrupted" in process.text() and "the same command again" in process.text()
    assert "Traceback" not in process.text()


def test_limit_goes_on_and_restart_begins_anew(world: World, client: redis.Redis) -> None:
    fill(world.database, 10)
    report = world.load("--limit", "4")
    assert rows_of(report) == {"read": 4, "set": 4}
    assert report["finished"] is False
    assert rows_of(world.load("--limit", "4")) == {"read": 8, "set": 8}
    assert rows_of(world.load("--limit", "4", "--restart")) == {"read": 4, "there": 4}
    assert rows_of(world.load()) == {"read": 10, "set": 2, "there": 8}
    assert there(client, "person:10")


def test_a_load_of_other_rows_is_another_load(world: World, client: redis.Redis) -> None:
    fill(world.database, 10)
    world.load("--where", "age > 2", "--limit", "3")
    assert "another --where" in world.load(code=1)
    assert rows_of(world.load("--restart")) == {"read": 10, "set": 7, "there": 3}


def test_where_chooses_rows(world: World, client: redis.Redis) -> None:
    fill(world.database, 100)
    assert rows_of(world.load("--where", "age >= 50 OR first = 'f1;('")) == {"read": 40, "set": 40}
    assert not there(client, "person:49")


@pytest.mark.parametrize(
    "where", ["age = 1; DROP TABLE persons", "age = 1 --", "1=1) OR (1=1", "nothing = 1", "?"]
)
def test_a_bad_where_is_wrong_usage(world: World, client: redis.Redis, where: str) -> None:
    fill(world.database, 3)
    assert "--where" in world.load("--where", where, code=2)
    assert not there(client, "person:1")
    assert run_sql(world.database, "SELECT COUNT(*) FROM persons")[0][0] == 3


def test_rows_without_a_key_are_named(tmp_path: Path, sqlite_url: str, client: redis.Redis) -> None:
    run_sql(sqlite_url, "CREATE TABLE persons (person_id TEXT PRIMARY KEY, first TEXT, age INT)")
    run_sql(sqlite_url, "INSERT INTO persons VALUES ('a:b', 'x', 1), ('', 'x', 1), ('c', 'x', 1)")
    world = World(tmp_path, sqlite_url, address(client))
    world.deploy()
    report = world.load()
    assert rows_of(report) == {"read": 3, "set": 1, "unkeyed": 2}
    assert report["unkeyed_rows"] == [{"person_id": ""}, {"person_id": "a:b"}]
    done = world.run("load")
    assert done.returncode == 0
    assert "Warning: 2 rows have no key" in done.stderr and "person_id = 'a:b'" in done.stderr


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_hostile_names_and_keys(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, client: redis.Redis
) -> None:
    database = str(request.getfixturevalue(f"{kind}_url"))
    mark = "`" if kind == "mariadb" else '"'
    table, first, second, column = 't"a`b;%s :x', "k'1 %", "select", 'v"`?--'
    quoted = [mark + name.replace(mark, mark * 2) + mark for name in (table, first, second, column)]
    run_sql(
        database,
        "CREATE TABLE {} ({} VARCHAR(20), {} INT, {} VARCHAR(20), PRIMARY KEY ({}, {}))".format(
            *quoted, quoted[2], quoted[1]
        ),
    )
    values = ", ".join(f"('{'%' * (i % 3)}''ä{i}', {i % 7}, 'v{i}')" for i in range(2200))
    run_sql(database, f"INSERT INTO {quoted[0]} ({', '.join(quoted[1:])}) VALUES {values}")
    text = READ.replace("person:{person_id}", f"x:{{{second}}}:{{{first}}}").replace('"persons"', repr(table))
    world = World(
        tmp_path,
        database,
        address(client),
        text.replace('{"first_name": "first", "age": "age"}', repr({"f": column})),
    )
    world.deploy()
    assert rows_of(world.load()) == {"read": 2200, "set": 2200}
    assert fields(client, "x:3:%'ä10".encode()) == {b"f": b"v10"}


def test_other_databases_and_other_names(tmp_path: Path, sqlite_url: str, client: redis.Redis) -> None:
    run_sql(sqlite_url, PERSONS)
    fill(sqlite_url, 3)
    text = READ.replace("ttl=600", 'ttl=0, db=3, name="third"')
    world = World(tmp_path, sqlite_url, address(client), text)
    world.deploy()
    assert rows_of(world.load()) == {"read": 3, "set": 3}
    with same_server(client, db=3) as third:
        assert third.hget("person:3", "first_name") == b"f3"
        assert third.ttl("person:3") == -1
    assert not there(client, "person:3")


# -- A cluster ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(deployed.server) as made:
        yield made


@pytest.fixture
def clustered(tmp_path: Path, sqlite_url: str, cluster: Cluster) -> World:
    for client in cluster.clients:
        for key in client.scan_iter("person:*"):
            client.delete(key)
    run_sql(sqlite_url, PERSONS)
    world = World(tmp_path, sqlite_url, cluster.nodes[1].url)
    world.deploy()
    return world


def test_each_key_goes_to_its_own_shard(clustered: World, cluster: Cluster) -> None:
    fill(clustered.database, 1500)
    assert rows_of(clustered.load()) == {"read": 1500, "set": 1500}
    sizes = [len(list(client.scan_iter("person:*", count=1000))) for client in cluster.clients]
    assert sum(sizes) == 1500
    assert min(sizes) > 300
    with cluster.client() as client:
        assert client.hget("person:1500", "first_name") == b"f1500"
    assert rows_of(clustered.load("--limit", "900")) == {"read": 900, "there": 900}
    assert rows_of(clustered.load()) == {"read": 1500, "there": 1500}


def test_keys_follow_slots_that_have_moved(
    clustered: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clustered.database, 300)
    monkeypatch.setenv("REPORTING_DB_URL", clustered.database)
    source = choose(clustered.file, None, None)
    connector = connect_database(source.url)
    with shards.connect(clustered.url) as found:
        reader = RowReader(source.function, connector)
        marks = {shard.address: shard.host.mark() for shard in found.shards}
        images = [(reader.key_of(values), fields) for values, fields in reader.scan(None, "", 300)]
        slots = {key_slot(key) for key, _ in images[:3]}
        for slot in slots:
            cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3)
        for client in cluster.clients:
            # The marks of the slots that moved say nothing more.
            deployed.apply_all(client)
        with Putter(found, "people", reader, 0) as putter:
            outcome = putter.put(images, marks)
    connector.close()
    assert (outcome.set, outcome.waiting, outcome.gone) == (300, 0, 0)
    with cluster.client() as client:
        assert all(there(client, key) for key, _ in images)


def test_keys_wait_for_a_slot_on_its_way(
    clustered: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clustered.database, 30)
    monkeypatch.setenv("REPORTING_DB_URL", clustered.database)
    slot = key_slot(b"person:1")
    source, target = cluster.owner(slot), (cluster.owner(slot) + 1) % 3
    cluster.open_slot(slot, source, target)
    process = clustered.start("--json")
    with cluster.client() as client:
        until(lambda: client.pttl("person:30") != -2)
    with pytest.raises(redis.exceptions.AskError):
        there(cluster.clients[source], "person:1")
    cluster.close_slot(slot, target)
    for client in cluster.clients:
        deployed.apply_all(client)
    assert process.process.wait(60) == 0
    assert rows_of(json.loads(process.text())) == {"read": 30, "set": 30}
    assert there(cluster.clients[target], "person:1")


# -- Races with the worker ---------------------------------------------------------------------------------


def test_a_row_that_was_read_before_a_change_came_to_sql_is_read_again(
    tmp_path: Path, sqlite_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between SELECT and Redis a key was deleted, and that is in SQL: no lane tells of it any more."""
    run_sql(sqlite_url, PERSONS)
    world = World(tmp_path, sqlite_url, address(client), READ + BEHIND)
    world.deploy()
    world.load()
    fill(sqlite_url, 4)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    source = choose(world.file, None, None)
    connector = connect_database(source.url)
    with shards.connect(world.url) as found:
        reader = RowReader(source.function, connector)
        with Putter(found, "people", reader, 0) as putter:
            client.hset("person:1", "first_name", "newer")
            marks = putter.mark()
            images = [(reader.key_of(values), fields) for values, fields in reader.scan(None, "", 9)]
            client.delete("person:1")
            client.hset("person:2", "first_name", "newer")
            client.delete("person:2")
            run_sql(sqlite_url, "DELETE FROM persons WHERE person_id = 1")
            run_sql(sqlite_url, "UPDATE persons SET first = 'of SQL' WHERE person_id = 2")
            deployed.apply_all(client)
            outcome = putter.put(images, marks)
    connector.close()
    assert (outcome.set, outcome.gone) == (3, 1)
    assert not there(client, "person:1")
    assert client.hget("person:2", "first_name") == b"of SQL"


# -- What can't be loaded ----------------------------------------------------------------------------------


def test_functions_that_are_not_deployed_so(world: World, tmp_path: Path, client: redis.Redis) -> None:
    fill(world.database, 3)
    write(tmp_path, READ.replace('"age": "age"', '"years": "age"'))
    assert "is not what the file says" in world.load(code=1)
    write(tmp_path, READ.replace('name="people"', 'name="others"'))
    assert "no active deployment others" in world.load(code=1)
    write(tmp_path, READ + READ)
    assert "gearsync check" in world.load(code=1)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (BEHIND, ("--function", "nobody"), "no function nobody with columns. Try: one of persons"),
        (TWO, (), "by --function: persons, two"),
        (BEHIND.replace("target=", "transform=lambda change: change, target="), (), "has a transform"),
        (AROUND, (), "no function of hashes has columns"),
    ],
)
def test_which_function_is_meant(world: World, text: str, options: tuple[str, ...], said: str) -> None:
    head = READ[: READ.index("ReadThrough(\n")]
    write(world.folder, head + text)
    assert said in " ".join(world.load(*options, code=1).split())


def test_a_database_that_is_away(world: World) -> None:
    run_sql(world.database, "DROP TABLE persons")
    assert "the database of reporting: there is no table persons" in world.load(code=1)
    done = gearsync("load", world.file, "--redis", world.url)
    assert done.returncode == 1
    assert "REPORTING_DB_URL" in done.stderr
