"""gearsync backfill: keys that were there before their functions come to SQL, while writes go on."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from redis.crc import key_slot

from deploy.backfill.chosen import choose
from deploy.backfill.place import Place, Progress
from deploy.cli import group
from deploy.hosts.module import ModuleHost
from deploy.reaching.shards import connect
from tests.cluster import Cluster
from tests.integration import deployed
from tests.integration.command import Process, gearsync, until
from tests.integration.deploying import FUNCTIONS, PERSONS, gearsync_json, rows, write
from tests.integration.system import System
from tests.integration.test_cli_wait import deployed_cluster
from tests.servers import RedisServer, run_sql

EXTERNAL = """
from gears import ReadThrough, WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people", worker="external")
reporting = Target("sqlite:///unused.db", name="reporting")

WriteBehind(keys="person:{id}", table="persons", columns=["name"], name="persons", target=reporting)
"""
READING = """
ReadThrough(keys="team:{id}", table="teams", columns=["name"], name="teams", target=reporting)
"""
KEYS = 3000
PLACE = "gearsync:{0}:backfill:people"


def fill(client: redis.Redis, count: int, prefix: str = "person") -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(1, count + 1):
            pipe.hset(f"{prefix}:{number}", mapping={"name": f"n{number}", "first_name": f"f{number}"})
        pipe.execute()


# -- With a worker -----------------------------------------------------------------------------------------


class Filled(System):
    """Its keys were there before it was deployed."""

    def deploy(self) -> None:
        with self.server.client() as client:
            fill(client, KEYS)
        said = gearsync_json("deploy", self.functions, "--redis", self.server.url)
        assert said["existing_keys"] > KEYS * 0.9

    def start(self, log: Path, *options: str) -> Process:
        return Process(log, "backfill", self.functions, "--redis", self.server.url, *options)


@pytest.fixture
def filled(tmp_path: Path, sqlite_url: str, host: str) -> Iterator[Filled]:
    run_sql(sqlite_url, PERSONS)
    made = Filled(tmp_path, FUNCTIONS, {"REPORTING_DB_URL": sqlite_url}, host=host)
    with made, made.environment():
        yield made


def write_and_end(client: redis.Redis, over: threading.Event) -> None:
    """Write keys, and have some deleted or expire at once, old ones and new ones."""
    dice = random.Random(1)
    for turn in itertools.count():
        with client.pipeline(transaction=False) as pipe:
            for _ in range(20):
                key = f"person:{dice.randrange(1, KEYS + 300)}"
                pipe.hset(key, "first_name", f"newer {turn}")
                if dice.random() < 0.4:
                    pipe.delete(key) if dice.random() < 0.5 else pipe.pexpire(key, dice.randrange(1, 40))
            pipe.execute()
        if over.wait(0.01):
            return


def hashes(client: redis.Redis) -> list[tuple[str, str]]:
    found = []
    for key in client.scan_iter("person:*", count=1000):
        name: Any = client.hget(key, "first_name")
        if name is not None:
            found.append((key.decode().partition(":")[2], name.decode()))
    return sorted(found)


def test_rows_are_as_hashes_after_a_kill_and_writes_meanwhile(
    filled: Filled, tmp_path: Path, sqlite_url: str
) -> None:
    over = threading.Event()
    with filled.server.client() as other:
        writer = threading.Thread(target=write_and_end, args=(other, over))
        writer.start()
        try:
            killed = filled.start(tmp_path / "killed.log", "--rate", "1500")
            until(lambda: rows(sqlite_url, "SELECT 1 FROM persons WHERE first LIKE 'f%' LIMIT 1"))
            killed.end(signal.SIGKILL)
            done = gearsync("backfill", filled.functions, "--redis", filled.server.url, "--json")
        finally:
            over.set()
            writer.join()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["in_sql"] is True and report["dead_letters"] == 0
    assert report["captured"] + report["gone"] == report["scanned"]
    # All keys whose time was set are gone before they are compared.
    until(lambda: not any(filled.client.pttl(key) > 0 for key in filled.client.scan_iter("person:*")))
    filled.wait()
    assert sorted(rows(sqlite_url, "SELECT person_id, first FROM persons")) == hashes(filled.client)
    assert any(name.startswith("f") for _, name in hashes(filled.client))
    assert not filled.client.exists(PLACE)


# -- Without a worker: what is captured stays to be seen ---------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with deployed.server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server on which no key is, and nothing is deployed."""
    with server.client() as client:
        client.flushall()
        yield client
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")


def captured(client: redis.Redis) -> list[str]:
    """The keys that were captured anew; marks of a resharding are no such changes."""
    found = [fields for _, fields in deployed.changes(client)]
    return [fields[b"k"].decode() for fields in found if fields[b"m"].startswith(b"r")]


class World:
    """Keys, functions that cover them, and nobody who brings changes to SQL."""

    def __init__(self, folder: Path, client: redis.Redis, text: str = EXTERNAL) -> None:
        self.client = client
        self.log = folder / "backfill.log"
        self.file = write(folder, text)
        self.url = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
        deployed.deploy(client)

    def words(self, *options: str) -> list[str]:
        return ["backfill", self.file, "--redis", self.url, "--no-wait", *options]

    def run(self, *options: str, code: int = 0) -> Any:
        """Run a backfill to its end; return its JSON with what it says, or of one that fails what it says."""
        done = CliRunner().invoke(group, self.words("--json", *options))
        assert done.exit_code == code, done.output
        return done.stderr if code else {**json.loads(done.stdout), "said": done.stderr}

    def start(self, *options: str) -> Process:
        return Process(self.log, *self.words(*options))


def leave(world: World, server: str, progress: Progress) -> None:
    """Leave the progress of a backfill of version 1 that was killed."""
    place = Place("people", choose(world.file, None, ()).scope(1))
    with connect(world.url) as shards:
        place.read(shards)
        place.write(shards, server, progress)


def run_id(client: redis.Redis) -> str:
    server: Any = client.info("server")
    return str(server["run_id"])


def test_it_goes_on_where_an_interrupt_ended_it(tmp_path: Path, client: redis.Redis) -> None:
    fill(client, 2000)
    client.set("person:text", "no hash")
    client.hset("person:1:2", "name", "not covered")
    world = World(tmp_path, client)
    process = world.start("--rate", "2000")
    until(lambda: len(captured(client)) > 400)
    assert process.end(signal.SIGINT) == 1
    assert "interrupted" in process.text() and "the same command again" in process.text()
    assert "Traceback" not in process.text()
    before = len(captured(client))
    report = world.run()
    assert "Going on after the" in report["said"]
    assert (report["scanned"], report["captured"], report["uncovered"]) == (2001, 2000, 1)
    keys = captured(client)
    assert set(keys) == {f"person:{number}" for number in range(1, 2001)}
    # Only what came behind the last note of the place is captured twice.
    assert before < 2000 and len(keys) < 2000 + 500
    assert world.run()["captured"] == 2000


def test_it_waits_for_sql_where_enough_changes_wait(tmp_path: Path, client: redis.Redis) -> None:
    fill(client, 400)
    world = World(tmp_path, client)
    process = world.start("--waiting", "90")
    until(lambda: len(captured(client)) == 90)
    while process.process.poll() is None:
        assert len(captured(client)) <= 90
        deployed.apply_all(client)
    assert process.process.returncode == 0, process.text()
    assert "400 captured" in process.text()


def test_large_hashes_stay_within_a_bound_in_bytes(tmp_path: Path, client: redis.Redis) -> None:
    for number in range(40):
        client.hset(f"person:{number}", "name", "x" * 50_000)
    world = World(tmp_path, client, EXTERNAL)
    deployed.deploy(client, version=2, backlog_bytes=1_000_000)
    process = world.start()
    until(lambda: len(captured(client)) > 8)
    while process.process.poll() is None:
        client.hset("person:0", "name", "of a client, who is never refused")
        deployed.apply_all(client)
    assert process.process.returncode == 0, process.text()
    assert "40 captured" in process.text()


def test_a_server_that_was_restarted_is_looked_through_anew(tmp_path: Path, client: redis.Redis) -> None:
    fill(client, 600)
    world = World(tmp_path, client)
    address = world.url.partition("//")[2]
    leave(world, "0" * 40, Progress(address, "0", 0, 1, True))
    report = world.run()
    assert "was restarted" in report["said"] and "Going on" not in report["said"]
    assert report["captured"] == len(captured(client)) == 600
    assert not client.exists(PLACE)


def test_a_backfill_of_other_columns_begins_anew(tmp_path: Path, client: redis.Redis) -> None:
    fill(client, 600)
    world = World(tmp_path, client)
    here = Progress("", "0", 0, 1, True).to_json()
    client.hset(PLACE, mapping={"scope": "another", run_id(client): here})
    report = world.run()
    assert "begins anew" in report["said"] and report["captured"] == len(captured(client)) == 600


def test_an_upgrade_begins_it_anew(tmp_path: Path, client: redis.Redis) -> None:
    """A version in between may have covered none of these keys: then nobody captured their writes."""
    fill(client, 600)
    world = World(tmp_path, client)
    leave(world, run_id(client), Progress("", "0", 0, 1, True))
    deployed.deploy(client, version=2)
    assert world.run()["captured"] == 600


def test_the_place_of_another_that_runs_at_the_same_time_is_not_taken(
    tmp_path: Path, client: redis.Redis
) -> None:
    fill(client, 600)
    world = World(tmp_path, client)
    with connect(world.url) as shards:
        Place("people", "of other functions").write(shards, run_id(client), Progress("", "0", 0, 1, True))
    assert world.run()["captured"] == len(captured(client)) == 600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--function", "teams"),
            "is read-through: it brings nothing from Redis to SQL. Try: one of persons",
        ),
        (("--function", "nobody"), "there is no function nobody. Try: one of persons, teams"),
        ((), "has no active deployment people"),
    ],
)
def test_what_it_refuses(tmp_path: Path, client: redis.Redis, words: tuple[str, ...], said: str) -> None:
    world = World(tmp_path, client, EXTERNAL + READING)
    client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
    assert said in " ".join(world.run(*words, code=1).split())
    deployed.deploy(client)


@pytest.mark.parametrize("killed", [False, True])
def test_undeploy_forgets_the_place(
    tmp_path: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """What is written then is captured by nobody: to go on there later would leave it out."""
    world = World(tmp_path, client)
    client.hset(PLACE, "scope", "any")
    real = ModuleHost.undeploy

    def undeploy(host: ModuleHost, name: str, discard: bool) -> None:
        real(host, name, discard)
        if killed:
            raise SystemExit(9)

    monkeypatch.setattr(ModuleHost, "undeploy", undeploy)
    done = CliRunner().invoke(group, ["undeploy", "people", "--redis", world.url])
    assert done.exit_code == (9 if killed else 0), done.output
    assert not client.exists(PLACE)
    until(lambda: not client.execute_command("GEARSYNC.DEPLOYMENTS"))
    deployed.deploy(client)


# -- A cluster ---------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with deployed_cluster(primaries=2) as found:
        yield found


def keys_of(cluster: Cluster, number: int, count: int) -> list[str]:
    """Covered keys of a shard, ten in each of some slots."""
    slots = set(cluster.slots(number))
    tags = (f"{{{each}}}" for each in itertools.count())
    mine = (tag for tag in tags if key_slot(tag.encode()) in slots)
    return [f"person:{tag}{each}" for tag in itertools.islice(mine, count // 10) for each in range(10)]


def test_a_key_that_moves_to_a_shard_that_is_done_is_not_lost(tmp_path: Path, cluster: Cluster) -> None:
    first, second = cluster.clients
    few, many = keys_of(cluster, 0, 10), keys_of(cluster, 1, 200)
    with cluster.client() as client:
        for key in few + many:
            client.hset(key, "name", "n")
    for each in cluster.clients:
        deployed.apply_all(each)
    file = write(tmp_path, EXTERNAL)
    words = ["backfill", file, "--redis", cluster.url, "--no-wait", "--rate", "100"]
    process = Process(tmp_path / "log", *words)
    with cluster.client() as client:
        until(lambda: any(b'"done": true' in each for each in client.hvals(PLACE)))
    slots = {key_slot(key.encode()) for key in many[-150:]}
    for slot in slots:
        cluster.move_slot(slot, 0)
    assert process.process.wait(60) == 0, process.text()
    found = set(captured(first)) | set(captured(second))
    assert found >= set(few + many)
    assert "looked through once more" in process.text()
