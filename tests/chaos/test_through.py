"""Both or neither: kill -9 of Redis, the worker and the database at every step of a write-through.

The short form runs with the other tests; ``make soak-tests`` (GEARSYNC_SOAK=1) kills 200 times.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
import redis

from tests.chaos.waiting import WaitingWorld, dying
from tests.chaos.world import running
from tests.form import SOAK

KILLS = 200 if SOAK else 6
#: The step after which a write is in SQL alone.
WORST = "after-commit"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if SOAK else 240)]


def _kill_worker(world: WaitingWorld) -> None:
    with contextlib.suppress(redis.ConnectionError, ProcessLookupError):
        pid = world.worker_pid()
        if pid > 0:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.one_database
def test_random_kills(fsync: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Redis, the worker or the database dies at a random moment, again and again."""
    kind = str(request.node.callspec.params["database_url"])
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    world = WaitingWorld(database_url, tmp_path, seed=11, options=("--appendfsync", fsync))
    with running(world):
        world.live_through_kills(KILLS, lambda: _kill_worker(world), database)


@pytest.mark.parametrize("victim", ["worker", "redis", "database"])
@pytest.mark.parametrize("failpoint", ["taken", "before-sql", "in-sql", "after-commit", "settled"])
def test_death_at_each_step(
    failpoint: str, victim: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A write of a client is in both or in neither, whoever dies before, in or after its commit."""
    kind = str(request.node.callspec.params["database_url"])
    if kind != "postgres" and failpoint != WORST and not SOAK:
        pytest.skip("on one database in the short form")
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    if victim == "database" and not hasattr(database, "restart"):
        pytest.skip(f"{kind} is no server of ours, which could die")
    environment = dying(tmp_path, failpoint, victim)
    with running(WaitingWorld(database_url, tmp_path, 12, 5000, **environment)) as world:
        world.live_through_death(victim, database)
