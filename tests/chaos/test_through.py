"""Both or neither: kill -9 of Redis, the worker and the database at every step of a write-through.

The short form runs with the other tests; ``make soak`` (GEARSYNC_SOAK=1) kills 200 times.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import redis

from tests.chaos.waiting import WaitingWorld
from tests.chaos.world import running, until

SOAK = os.environ.get("GEARSYNC_SOAK") == "1"
KILLS = 200 if SOAK else 6
#: The steps between which a write is in SQL alone.
WORST = ("in-sql", "after-commit")

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if SOAK else 240)]


def _kill_worker(world: WaitingWorld) -> None:
    with contextlib.suppress(redis.ConnectionError, ProcessLookupError):
        pid = world.worker_pid()
        if pid > 0:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_random_kills(fsync: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Redis, the worker or the database dies at a random moment, again and again."""
    kind = str(request.node.callspec.params["database_url"])
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    world = WaitingWorld(database_url, tmp_path, seed=11, options=("--appendfsync", fsync))
    with running(world):
        world.begin()
        world.until_more()
        for _ in range(KILLS):
            time.sleep(world.random.uniform(0, 0.5))
            victim = world.random.random()
            if victim < 0.4:
                world.restart_server()
            elif victim < 0.8 or not hasattr(database, "restart"):
                _kill_worker(world)
            else:
                database.restart()  # type: ignore[union-attr]
            if world.random.random() < 0.7:
                world.until_more()
        world.until_more()
        world.end()
        world.check_waiting()
        print({outcome: world.count(outcome) for outcome in ("ok", "error", "lost")})


@pytest.mark.parametrize("victim", ["worker", "redis", "database"])
@pytest.mark.parametrize("failpoint", ["taken", "before-sql", "in-sql", "after-commit", "settled"])
def test_death_at_each_step(
    failpoint: str, victim: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A write of a client is in both or in neither, whoever dies before, in or after its commit."""
    kind = str(request.node.callspec.params["database_url"])
    if kind != "postgres" and failpoint not in WORST and not SOAK:
        pytest.skip("on one database in the short form")
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    if victim == "database" and not hasattr(database, "restart"):
        pytest.skip(f"{kind} is no server of ours, which could die")
    once, pid = tmp_path / "reached", tmp_path / "pid"
    environment = {"GEARSYNC_FAILPOINT": failpoint, "GEARSYNC_FAILPOINT_ONCE": str(once)}
    if victim != "worker":
        environment["GEARSYNC_FAILPOINT_VICTIM"] = str(pid)
    with running(WaitingWorld(database_url, tmp_path, 12, 5000, **environment)) as world:
        if victim == "redis":
            pid.write_text(str(world.server.pid))
        elif victim == "database":
            assert database is not None
            pid.write_text(str(database.pid))
        world.begin()
        until(once.exists, what=f"the failpoint {failpoint}")
        if victim == "redis":
            world.restart_server()
        elif victim == "database":
            database.restart()  # type: ignore[union-attr]
        world.until_more(more=40)
        world.end()
        world.check_waiting()
