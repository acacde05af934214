"""A replica takes over: the old worker is fenced, the new one resumes, and all is applied just once."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from tests.chaos.pair import Difference, SentinelServer, compare, functions_file, pair
from tests.chaos.world import FUNCTIONS, TABLES, URL_VARIABLE, until
from tests.form import SOAK
from tests.integration.deploying import ROOT, gearsync
from tests.servers import RedisServer, run_sql

ROUNDS = 20 if SOAK else 2
SAME = Difference(set(), set(), set())

pytestmark = [pytest.mark.chaos, pytest.mark.one_database, pytest.mark.timeout(3600 if SOAK else 240)]
Servers = tuple[RedisServer, RedisServer]


@pytest.fixture
def servers(database_url: str, tmp_path: Path) -> Iterator[Servers]:
    """A pair with the deployment, whose worker runs."""
    dialect = make_url(database_url).get_backend_name()
    for statement in TABLES["mysql" if dialect == "mariadb" else dialect]:
        run_sql(database_url, statement)
    variables = {URL_VARIABLE: database_url, "PYTHONPATH": str(ROOT)}
    with pair(variables) as found:
        done = gearsync("deploy", functions_file(tmp_path, FUNCTIONS), "--redis", found[0].url)
        assert done.returncode == 0, done.stderr
        yield found


def worker(client: redis.Redis) -> dict[str, Any]:
    document = json.loads(client.execute_command("GEARSYNC.STATUS"))
    found: dict[str, Any] = document["deployments"][0]["worker"]
    return found


def settle(client: redis.Redis) -> None:
    client.execute_command("GEARSYNC.WAIT", 30_000)


def write(client: redis.Redis, versions: Iterator[int], people: range) -> None:
    with client.pipeline(transaction=False) as pipe:
        for person in people:
            pipe.hset(f"person:{person}", "version", next(versions))
        pipe.execute()


def check_history(url: str) -> None:
    """No row ever went back, and no version came twice."""
    last: dict[int, int] = {}
    for person, version in run_sql(url, "SELECT person_id, version FROM history ORDER BY seq"):
        assert version > last.get(person, 0), f"person {person}: {version} after {last[person]}"
        last[person] = version


def test_an_old_primary_that_lives_on_is_fenced_and_ids_that_went_back_skip_nothing(
    servers: Servers, database_url: str
) -> None:
    """The replica is cut off, misses some writes that reach SQL all the same, and is promoted."""
    versions = itertools.count(1)
    with servers[0].client(socket_timeout=60) as old, servers[1].client(socket_timeout=60) as new:
        write(old, versions, range(100))
        settle(old)
        assert worker(new)["pid"] == 0
        until(lambda: compare(new, database_url) == SAME, what="the replica's copy")
        new.replicaof("127.0.0.1", "1")
        # The ids of the cut-off writes are from the far future, so that the new primary's are behind them.
        [lane] = list(old.scan_iter("gearsync:{0}:lane:*"))
        old.execute_command("XSETID", lane, f"{2**45}-0")
        write(old, versions, range(50, 60))
        settle(old)
        new.replicaof("NO", "ONE")
        write(new, versions, range(55, 80))
        settle(new)
        # The old one still takes writes, and its worker can bring none of them to SQL any more.
        write(old, versions, range(100))
        until(lambda: "fenced" in worker(old)["last_exit"], what="the fence")
        write(new, versions, range(80, 90))
        settle(new)
        check_history(database_url)
        lost = set(range(50, 55))
        assert compare(new, database_url) == Difference(set(), set(), lost)
        old.replicaof("127.0.0.1", servers[1].port)
        until(lambda: old.info("replication").get("master_link_status") == "up", what="the new link")
        until(lambda: worker(old)["pid"] == 0, what="the end of the old worker")
        # What SQL has of writes that no Redis has any more is healed by capturing the keys anew.
        new.execute_command("GEARSYNC.RECAPTURE", *(f"person:{person}" for person in lost))
        settle(new)
        assert compare(new, database_url) == SAME
        assert compare(old, database_url) == SAME


class Load:
    """A client that writes to whoever is the primary; ``answered``: key → last version."""

    def __init__(self, port: Callable[[], int]) -> None:
        self.answered: dict[int, int] = {}
        self.errors: list[BaseException] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert not self.errors, self.errors

    def _run(self) -> None:
        try:
            for version in itertools.count(1):
                if self._stop.is_set():
                    return
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError):
                    self._write(version)
        except BaseException as error:
            self.errors.append(error)

    def _write(self, version: int) -> None:
        with redis.Redis(port=self._port(), socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            client.hset(f"person:{version % 300}", "version", version)
        self.answered[version % 300] = version


def test_failover_under_load(servers: Servers, database_url: str) -> None:
    """FAILOVER there and back: nothing that was answered is lost."""
    one, two = (server.client(socket_timeout=60) for server in servers)
    primary = [servers[0].port]

    def fail_over(before: redis.Redis, after: redis.Redis, port: int) -> None:
        until(lambda: len(load.answered) == 300, what="some writes")
        before.execute_command("FAILOVER", "TIMEOUT", 10_000)
        until(lambda: after.info("replication")["role"] == "master", what="the failover")
        primary[0] = port
        until(lambda: worker(after)["state"] == "running", what="the new worker")
        until(lambda: worker(before)["pid"] == 0, what="the end of the old worker")
        load.answered.clear()

    with one, two, Load(lambda: primary[0]) as load:
        for turn in range(ROUNDS):
            before, after = (one, two) if turn % 2 == 0 else (two, one)
            fail_over(before, after, servers[1 - turn % 2].port)
    last = two if ROUNDS % 2 else one
    with last:
        settle(last)
        assert compare(last, database_url) == SAME
        for person, version in load.answered.items():
            value: Any = last.hget(f"person:{person}", "version")
            assert int(value) >= version
    check_history(database_url)


def test_kill_9_of_the_primary_with_sentinel(servers: Servers, database_url: str) -> None:
    """The client follows Sentinel; SQL then has what the new primary has."""
    with SentinelServer(servers[0]) as sentinel, servers[1].client(socket_timeout=60) as new:
        with servers[0].client() as old:
            until(lambda: old.info("replication")["connected_slaves"] == 1, what="the replica")
        knows = redis.Redis(port=sentinel.port)
        until(lambda: len(knows.sentinel_slaves("shard")) == 1, what="Sentinel's knowledge")
        with Load(sentinel.primary_port) as load:
            until(lambda: len(load.answered) == 300, what="some writes")
            servers[0].kill9()
            until(lambda: sentinel.primary_port() == servers[1].port, 60, what="the failover")
            until(lambda: worker(new)["state"] == "running", 60, what="the new worker")
            load.answered.clear()
            until(lambda: len(load.answered) == 300, 60, what="writes to the new primary")
        knows.close()
        settle(new)
        assert compare(new, database_url) == SAME
        check_history(database_url)
