"""Both or neither on RedisGears: kill -9 of Redis, the process that commits and the database.

The short form runs with the other tests; ``make soak-tests`` (GEARSYNC_SOAK=1) kills 200 times.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.chaos.waiting import WaitingWorld, dying
from tests.chaos.world import running
from tests.form import SOAK
from tests.redisgears import skip_without_redisgears

skip_without_redisgears()

KILLS = 200 if SOAK else 6

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if SOAK else 240)]


def _kill_process(world: WaitingWorld) -> None:
    with contextlib.suppress(redis.RedisError, ProcessLookupError):
        pid = world.worker_pid()
        if pid > 0:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_random_kills(fsync: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Redis, the process that commits or the database dies at a random moment, again and again."""
    kind = str(request.node.callspec.params["database_url"])
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    options = ("--appendfsync", fsync)
    world = WaitingWorld(database_url, tmp_path, seed=11, options=options, host="redisgears")
    with running(world):
        world.live_through_kills(KILLS, lambda: _kill_process(world), database)


@pytest.mark.parametrize("victim", ["process", "redis", "database"])
@pytest.mark.parametrize("failpoint", ["taken", "before-sql", "in-sql", "after-commit", "settled"])
def test_death_at_each_step(
    failpoint: str, victim: str, postgres: Any, postgres_url: str, tmp_path: Path
) -> None:
    """A write of a client is in both or in neither, whoever dies before, in or after its commit."""
    if victim == "database" and not hasattr(postgres, "restart"):
        pytest.skip("PostgreSQL is no server of ours, which could die")
    if victim == "process" and failpoint == "settled":
        pytest.skip("Redis' own process settles")
    environment = dying(tmp_path, failpoint, victim)
    world = WaitingWorld(postgres_url, tmp_path, 12, 5000, host="redisgears", **environment)
    with running(world):
        world.live_through_death(victim, postgres)
