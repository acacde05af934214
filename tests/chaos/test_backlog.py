"""The database is away for a long time: what waits is bounded, computed, copied and kept, and it catches up.

The short form lets some ten thousand changes wait; ``make soak-tests`` (GEARSYNC_SOAK=1) a million.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.chaos.world import until
from tests.form import SOAK
from tests.integration.module.driving import debug_options
from tests.integration.system import System
from tests.sanitizers import module_path
from tests.servers import DatabaseServer, RedisServer, run_sql

CHANGES = 1_000_000 if SOAK else 30_000
PEOPLE = CHANGES // 10
PIPELINE = 1000
#: The longest that any client may wait while the backlog is taken to SQL, in seconds; a pause of Redis.
#: In the short form other tests have the processors too.
PAUSE = 0.5 if SOAK else 5.0

FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", lanes=2, backlog={{"entries": {CHANGES}}})
away = Target("env:AWAY_DB_URL", name="away")
WriteBehind(keys="person:{{id}}", table="persons", columns=["version", "name"], target=away)
"""
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, version INTEGER, name VARCHAR(40))"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800 if SOAK else 240)]


class Pulse:
    """A client that asks all the time; ``longest``: seconds that Redis left it waiting at most."""

    def __init__(self, server: RedisServer) -> None:
        self.longest = 0.0
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._server.client(socket_timeout=30) as client:
            while not self._ended.wait(0.002):
                begin = time.monotonic()
                client.hget("person:1", "version")
                self.longest = max(self.longest, time.monotonic() - begin)


@pytest.fixture(params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> tuple[DatabaseServer, str]:
    """A database server that can be stopped, and the URL of a database there with the table."""
    server = request.getfixturevalue(request.param)
    if not hasattr(server, "terminate"):
        pytest.skip(f"{request.param} was given by a URL or runs in a container; it is not ours to stop")
    url: str = request.getfixturevalue(f"{request.param}_url")
    run_sql(url, PERSONS)
    return server, url


@contextlib.contextmanager
def stopped(server: DatabaseServer) -> Iterator[None]:
    """Have no database for a while."""
    server.terminate()
    try:
        yield
    finally:
        server.start()


def write(client: redis.Redis, versions: range) -> None:
    """Write one change a version, in pipelines."""
    with client.pipeline(transaction=False) as pipe:
        for version in versions:
            person = version % PEOPLE
            pipe.hset(f"person:{person}", mapping={"version": version, "name": f"name of {person}"})
            if len(pipe) == PIPELINE:
                pipe.execute()
        pipe.execute()


def lanes(client: redis.Redis) -> dict[bytes, int]:
    """Return the lanes that are in the keyspace, and how many changes wait in each."""
    return {key: client.xlen(key) for key in sorted(client.scan_iter("gearsync:*:lane:*", count=10_000))}


def check_bound(system: System, client: redis.Redis) -> None:
    """Not one change more than the limit, and who is refused is told so and writes nothing."""
    assert system.status()["backlog"]["full"]
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="BACKLOG"):
            client.hset("person:1", "version", -1)
    value: Any = client.hget("person:1", "version")
    assert int(value) > 0
    client.hset("other:1", "version", 1)
    assert sum(lanes(client).values()) == CHANGES == system.status()["backlog"]["entries"]
    assert system.status()["refused_writes"] == 3


def memory(client: redis.Redis) -> int:
    """What the server takes in bytes, but for what is on its way to its log or to clients."""
    told: Any = client.info("memory")
    return int(told["used_memory"] - told["mem_aof_buffer"] - told["mem_clients_normal"])


def check_memory(system: System, client: redis.Redis, before: int) -> None:
    """The lanes take what the module says, and the server no more than that and the keys themselves."""
    measured = sum(int(client.memory_usage(lane, samples=0) or 0) for lane in lanes(client))
    estimate = system.status()["backlog"]["bytes"]
    assert 0.7 < estimate / measured < 1.4, (estimate, measured)
    print(f"the lanes take {measured:,} bytes, the estimate is {estimate:,}")
    keys = PEOPLE * int(client.memory_usage("person:1") or 0)
    index = 80 * PEOPLE + 2_000_000
    grown = memory(client) - before
    assert grown < 1.3 * measured + keys + index, (grown, measured, keys)


@contextlib.contextmanager
def replica_of(server: RedisServer) -> Iterator[redis.Redis]:
    """A replica that copies all of a server."""
    options = (*server.options, "--replicaof", "127.0.0.1", str(server.port))
    arguments = ("SUPERVISE", "no")
    with RedisServer(*options, module=module_path(), module_arguments=arguments) as replica:
        with replica.client(socket_timeout=60) as client:
            link = "master_link_status"
            until(lambda: client.info("replication").get(link) == "up", 120, "the copy")
            yield client


def digest(client: redis.Redis) -> Any:
    return client.execute_command("DEBUG", "DIGEST")


def rows(url: str) -> dict[int, tuple[Any, ...]]:
    return {row[0]: tuple(row[1:]) for row in run_sql(url, "SELECT id, version, name FROM persons")}


def check_rows(url: str) -> None:
    """Each row has the last version of its person."""
    expected = {person: (CHANGES - PEOPLE + person, f"name of {person}") for person in range(PEOPLE)}
    assert rows(url) == expected


def test_a_database_that_is_away_for_long(database: tuple[DatabaseServer, str], tmp_path: Path) -> None:
    """Bounded exactly, in the memory that it says, copied by a full sync, kept by a crash, then caught up."""
    server, url = database
    options = ("--appendonly", "yes", *debug_options())
    system = System(tmp_path, FUNCTIONS, {"AWAY_DB_URL": url}, options=options)
    with system as client:
        with stopped(server):
            before = memory(client)
            with Pulse(system.server) as pulse:
                write(client, range(CHANGES))
            assert pulse.longest < PAUSE
            print(f"longest pause while {CHANGES:,} changes came: {pulse.longest * 1000:.0f} ms")
            check_bound(system, client)
            check_memory(system, client, before)
            with replica_of(system.server) as copy:
                until(lambda: digest(copy) == digest(client), what="the same in both")
                assert lanes(copy) == lanes(client)
            with system.environment():
                system.server.restart()
            assert sum(lanes(client).values()) == CHANGES
            until(lambda: system.status()["backlog"]["full"], what="the bound after a restart")
        with replica_of(system.server) as copy:
            begin = time.monotonic()
            with Pulse(system.server) as pulse:
                system.wait(900)
            assert pulse.longest < PAUSE
            seconds = time.monotonic() - begin
            print(f"caught up in {seconds:.0f} s, longest pause {pulse.longest * 1000:.0f} ms")
            check_rows(url)
            assert set(lanes(client).values()) <= {0}
            until(lambda: digest(copy) == digest(client), what="the same in both")
        client.hset("person:1", "version", CHANGES)
        system.wait()
        assert rows(url)[1][0] == CHANGES
        assert system.letters() == []
