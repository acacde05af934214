"""Promises 1 to 3 under kill -9: of Redis, of the worker at its worst moments, of the database; under load.

The short form runs with the other tests; ``make soak-tests`` (GEARSYNC_SOAK=1) runs 20 rounds of 50,000
writes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.chaos.world import World, running, until
from tests.form import SOAK

ROUNDS = 20 if SOAK else 2
WRITES = 50_000 if SOAK else 6_000
#: Kills of one round at least; they go on while the clients write.
KILLS = 6 if SOAK else 3

pytestmark = [pytest.mark.chaos, pytest.mark.one_database, pytest.mark.timeout(3600 if SOAK else 240)]


def _kill_in_load(world: World, kill: Callable[[], object]) -> None:
    """Write while ``kill`` is called at random moments; then check."""
    for _ in range(ROUNDS):
        threads, kills = world.write(WRITES), 0
        while kills < KILLS or any(thread.is_alive() for thread in threads):
            time.sleep(world.random.uniform(0.05, 0.6 if kills < KILLS else 4))
            kill()
            kills += 1
        for thread in threads:
            thread.join()
        world.check()


def test_kill_9_of_redis_loses_and_doubles_nothing(host: str, database_url: str, tmp_path: Path) -> None:
    """A change and its write exist together or not at all, across crashes of the server."""
    with running(World(database_url, tmp_path, seed=1, host=host)) as world:
        _kill_in_load(world, world.restart_server)


def test_kill_9_of_the_worker_loses_and_doubles_nothing(host: str, database_url: str, tmp_path: Path) -> None:
    """The checkpoint and the batch commit together."""
    with running(World(database_url, tmp_path, seed=2, host=host)) as world:

        def kill() -> None:
            with contextlib.suppress(redis.ConnectionError, ProcessLookupError):
                pid = world.worker_pid()
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)

        _kill_in_load(world, kill)
        until(lambda: world.status()["worker"]["state"] == "running", what="the worker's restart")
        assert world.status()["worker"]["restarts"] > 0


@pytest.mark.parametrize("failpoint", ["before-sql", "after-commit", "before-ack"])
def test_worker_dies_at_its_worst_moments(
    host: str, database_url: str, tmp_path: Path, failpoint: str
) -> None:
    """Killed before SQL, after the commit and before the trim: applied exactly once."""
    once = tmp_path / "failpoint-reached"
    environment = {"GEARSYNC_FAILPOINT": failpoint, "GEARSYNC_FAILPOINT_ONCE": str(once)}
    with running(World(database_url, tmp_path, seed=3, host=host, **environment)) as world:
        for thread in world.write(WRITES // 2):
            while thread.is_alive():
                thread.join(0.1)
                if world.server.process is not None and world.server.process.poll() is not None:
                    # In RedisGears it is Redis itself that comes to "before-ack".
                    world.restart_server()
        world.check()
        assert once.exists(), "the worker never came to the failpoint"


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_kill_9_of_the_database_loses_and_doubles_nothing(
    host: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A lost database is retried as long as it takes; an ambiguous commit is settled by the checkpoint."""
    server = request.getfixturevalue(kind)
    if not hasattr(server, "restart"):
        pytest.skip(f"{kind} was given by a URL or runs in a container; it is not ours to kill")
    url = request.getfixturevalue(f"{kind}_url")
    with running(World(url, tmp_path, seed=4, host=host)) as world:
        _kill_in_load(world, server.restart)
