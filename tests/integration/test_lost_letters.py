"""Dead letters that a promoted replica never got, or a crash has taken: SQL remembers them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.hosts.module import ModuleHost
from gears.applying import failpoints
from gears.declaring import config
from gears.worker.worker import Worker
from tests.integration.deploying import eventually, rows, write
from tests.integration.workers import unsupervised_server, worker_of
from tests.servers import RedisServer, run_sql

FUNCTIONS = """
from gears import WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people", lanes=1)
shop = Target("env:SHOP_DB_URL", name="shop")
WriteBehind(keys="person:{id}", table="persons", columns=["age"], target=shop)
WriteBehind(keys="person:{id}", table="copies", columns=["age"], target=shop)
"""

Letters = dict[str, dict[str, Any]]


class Shop:
    """A database, and servers whose workers run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/shop.sqlite"
        # One is refused before SQL is asked, by its column, the other by the database.
        run_sql(self.url, "CREATE TABLE persons (id INTEGER PRIMARY KEY, age INTEGER CHECK (age < 200))")
        run_sql(self.url, "CREATE TABLE copies (id INTEGER PRIMARY KEY, age TEXT)")
        self.functions = config.load(write(folder, FUNCTIONS))

    def worker(self, server: RedisServer) -> contextlib.AbstractContextManager[Worker]:
        """Run a worker."""
        return worker_of(server, "people", self.folder)

    def work(self, server: RedisServer, client: redis.Redis) -> None:
        """Have a worker bring all that waits to SQL."""
        with self.worker(server):
            client.execute_command("GEARSYNC.WAIT", 20_000)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    monkeypatch.setenv("SHOP_DB_URL", made.url)
    return made


def dead_streams(client: redis.Redis) -> list[bytes]:
    found: list[bytes] = sorted(client.scan_iter("gearsync:{0}:dead:*"))
    return found


def entries_of(client: redis.Redis, stream: Any) -> list[tuple[Any, Any]]:
    found: Any = client.xrange(stream)
    return list(found)


def letters(client: redis.Redis) -> Letters:
    """Return the letters that there are, as `gearsync deadletters list` finds them, by their keys."""
    found: Letters = {}
    for deployment in ModuleHost(client).status()["deployments"]:
        for lane in (lane for target in deployment["targets"] for lane in target["lanes"]):
            for entry_id, fields in entries_of(client, lane["dead_stream"]):
                assert fields[b"key"].decode() not in found, "a letter is there twice"
                found[fields[b"key"].decode()] = {
                    "entry": entry_id.decode(),
                    **{name.decode(): fields[name].decode() for name in fields},
                }
    return found


def reported(client: redis.Redis) -> dict[str, Any]:
    """Return what the worker has reported."""
    found: dict[str, Any] = ModuleHost(client).status()["deployments"][0]["worker"]["report"]
    return found


def drop(client: redis.Redis, key: str) -> None:
    assert client.xdel(dead_streams(client)[0], letters(client)[key]["entry"]) == 1


def spoil(client: redis.Redis) -> None:
    """Write what the column, the database and none of them refuses."""
    for person, age in (("1", "many"), ("2", "999"), ("3", "33")):
        client.hset(f"person:{person}", "age", age)


@contextlib.contextmanager
def lossy_pair(shop: Shop) -> Iterator[tuple[RedisServer, redis.Redis, RedisServer, redis.Redis]]:
    """Yield a primary, and its replica that has the changes, and gets nothing more."""
    with unsupervised_server() as (old, client), unsupervised_server() as (new, replica):
        ModuleHost(client).deploy(shop.functions)
        replica.execute_command("REPLICAOF", "127.0.0.1", old.port)
        # Redis 6.2 counts a replica in WAIT that is still in its first synchronization.
        eventually(lambda: replica.info("replication").get("master_link_status") == "up")
        spoil(client)
        assert client.execute_command("WAIT", 1, 20_000) == 1
        replica.execute_command("REPLICAOF", "127.0.0.1", 1)
        yield old, client, new, replica


def test_a_replica_that_is_promoted_without_the_letters_gets_them(shop: Shop) -> None:
    with lossy_pair(shop) as (old, client, new, replica):
        shop.work(old, client)
        lost = letters(client)
        assert sorted(lost) == ["person:1", "person:2"]
        replica.execute_command("REPLICAOF", "NO", "ONE")
        assert letters(replica) == {}
        shop.work(new, replica)
        found = letters(replica)
        for key, each in found.items():
            # Its batch was tried twice, the second time with the row that the database refuses left out.
            assert abs(int(each.pop("at")) - int(lost[key].pop("at"))) < 10_000
        assert found == lost
        # The next workers find nothing to be done, also of what a person has dropped.
        drop(replica, "person:1")
        shop.work(new, replica)
        assert sorted(letters(replica)) == ["person:2"]
    assert rows(shop.url, "SELECT id, age FROM persons") == [(3, 33)]


def test_letters_that_are_larger_than_what_redis_takes_stop_no_lane(shop: Shop) -> None:
    """One by itself, some together, and each of a server's two limits."""
    with unsupervised_server() as (server, client):
        ModuleHost(client).deploy(shop.functions)
        for limit in ("client-query-buffer-limit", "proto-max-bulk-len"):
            for person in range(4):
                client.hset(f"person:{person}", "age", "é" * (200_000 if person == 1 else 60_000))
            client.hset("person:9", "age", "33")
            before: Any = client.config_get(limit)
            client.config_set(limit, "1mb")
            shop.work(server, client)
            found = letters(client)
            images = [json.loads(found[f"person:{person}"]["image"])["age"] for person in range(4)]
            assert images == ["é" * 60_000, {"bytes": 400_000}, "é" * 60_000, "é" * 60_000]
            client.config_set(limit, before[limit])
            for stream in dead_streams(client):
                client.delete(stream)
    assert rows(shop.url, "SELECT id, age FROM persons") == [(9, 33)]


def test_letters_that_the_replica_has_stay_as_they_are(shop: Shop) -> None:
    """It lacks the trim of the lane alone; a person has dropped one of the letters meanwhile."""
    with lossy_pair(shop) as (old, client, new, replica):
        shop.work(old, client)
        [stream] = dead_streams(client)
        replica.execute_command("REPLICAOF", "NO", "ONE")
        for entry_id, fields in entries_of(client, stream):
            replica.xadd(stream, fields, entry_id)
        drop(replica, "person:1")
        shop.work(new, replica)
        assert letters(replica) == {"person:2": letters(client)["person:2"]}


def test_a_dropped_letter_is_not_brought_back_by_a_worker_that_crashed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()

    def reach(name: str) -> None:
        if name == "before-ack":
            reached.set()
            raise RuntimeError("dies before the lane is trimmed")

    with unsupervised_server() as (server, client):
        ModuleHost(client).deploy(shop.functions)
        spoil(client)
        with monkeypatch.context() as patched:
            patched.setattr(failpoints, "reach", reach)
            with shop.worker(server):
                assert reached.wait(20)
        drop(client, "person:1")
        shop.work(server, client)
        assert sorted(letters(client)) == ["person:2"]


def test_a_letter_of_ids_that_fell_back_is_known_by_its_own_id(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are put behind a later one, and the promoted replica puts them elsewhere; then it crashes."""
    with lossy_pair(shop) as (old, client, new, replica):
        [lane] = list(client.scan_iter("gearsync:{0}:lane:*"))
        stream = lane.replace(b"}:lane:", b"}:dead:")
        for one, entry_id in ((client, f"{2**45}-0"), (replica, f"{2**44}-0")):
            if one is replica:
                one.execute_command("REPLICAOF", "NO", "ONE")
            one.xadd(stream, {"key": "other", "functions": "[]"}, entry_id)
            one.xdel(stream, entry_id)
        shop.work(old, client)
        waiting = entries_of(replica, lane)
        shop.work(new, replica)
        found = letters(replica)
        assert {key: each["entry"] for key, each in found.items()} == {
            "person:1": f"{2**44}-1",
            "person:2": f"{2**44}-2",
        }
        drop(replica, "person:1")
        # As a promotion would that lacks the trim of the lane, and nothing else.
        replica.delete(lane)
        for entry_id, fields in waiting:
            replica.xadd(lane, fields, entry_id)
        with shop.worker(new):
            # The module did not see them come.
            eventually(lambda: replica.xlen(lane) == 0)
        assert sorted(letters(replica)) == ["person:2"]


def test_letters_of_a_function_that_was_held_back_come_again(shop: Shop) -> None:
    """The replica knows nothing of the pause, so that they stand among those of the lane."""
    with lossy_pair(shop) as (old, client, new, replica):
        pause = ("GEARSYNC.PAUSE", "people", "", "", "FUNCTION", shop.functions.functions[0].name)
        client.execute_command(*pause)
        with shop.worker(old):
            eventually(lambda: len(rows(shop.url, "SELECT id FROM copies")) == 3)
            client.execute_command("GEARSYNC.RESUME", *pause[1:2], *pause[4:])
            client.execute_command("GEARSYNC.WAIT", 20_000)
        lost = letters(client)
        assert sorted(lost) == ["person:1", "person:2"]
        replica.execute_command("REPLICAOF", "NO", "ONE")
        shop.work(new, replica)
        found = letters(replica)
        assert sorted(found) == sorted(lost)
        assert [json.loads(found[key]["functions"]) for key in sorted(found)] == [[pause[5]]] * 2


def test_an_undeployed_deployment_is_forgotten_and_a_worker_that_ends_forgets_nothing(shop: Shop) -> None:
    remembered = "SELECT stream FROM gearsync_letter"
    with unsupervised_server() as (server, client):
        ModuleHost(client).deploy(shop.functions)
        spoil(client)
        shop.work(server, client)
        assert len(rows(shop.url, remembered)) == 2
        values = "epoch, ms, seq, entry, at_ms, record FROM gearsync_letter"
        run_sql(shop.url, f"INSERT INTO gearsync_letter SELECT 'another', {values}")
        before = reported(client)["worker"]
        with shop.worker(server):
            eventually(lambda: reported(client)["worker"] != before)
            eventually(lambda: reported(client)["state"] == "running")
            client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
            eventually(lambda: rows(shop.url, remembered) == [("another",)] * 2)
