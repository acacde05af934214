"""What an operator does to a server under load: rewrites, reloads, a new module, a newer server."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.world import World, running, until
from tests.form import SOAK
from tests.integration.module.driving import debug_options
from tests.sanitizers import module_path

ROUNDS = 20 if SOAK else 2
WRITES = 50_000 if SOAK else 4_000
ACTS = 6 if SOAK else 3
#: Paths of servers, from older to newer, with a colon between them.
SERVERS = [path for path in os.environ.get("GEARSYNC_TEST_REDIS_SERVERS", "").split(os.pathsep) if path]

pytestmark = [pytest.mark.chaos, pytest.mark.one_database, pytest.mark.timeout(3600 if SOAK else 240)]


def act_in_load(world: World, act: Callable[[], object], after: Callable[[], object]) -> None:
    """Write while ``act`` is called again and again; then ``after``, and check."""
    for _ in range(ROUNDS):
        threads, acts = world.write(WRITES), 0
        while acts < ACTS or any(thread.is_alive() for thread in threads):
            time.sleep(world.random.uniform(0.05, 0.3 if acts < ACTS else 2))
            act()
            acts += 1
        for thread in threads:
            thread.join()
        after()
        world.check()


def nothing() -> None:
    """Nothing happens afterwards."""


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_the_aof_is_rewritten(preamble: str, postgres_url: str, tmp_path: Path) -> None:
    """While changes come; each rewritten file holds all that waited, also after a crash."""
    world = World(postgres_url, tmp_path, seed=11, options=("--aof-use-rdb-preamble", preamble))

    def rewrite() -> None:
        with world.server.client() as client:
            client.bgrewriteaof()
            until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, what="the rewrite")
            assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"

    with running(world):
        act_in_load(world, rewrite, world.restart_server)


def test_the_server_reloads_its_data(postgres_url: str, tmp_path: Path) -> None:
    """DEBUG RELOAD and DEBUG LOADAOF empty the server and fill it again; that is no flush."""
    with running(World(postgres_url, tmp_path, seed=12, options=debug_options())) as world:

        def reload() -> None:
            with world.server.client(socket_timeout=60) as client:
                client.execute_command("DEBUG", world.random.choice(["RELOAD", "LOADAOF"]))

        act_in_load(world, reload, nothing)


def test_the_module_is_upgraded(database_url: str, tmp_path: Path) -> None:
    """In one transaction, as the guide says: no write is missed, nothing is applied twice."""
    with running(World(database_url, tmp_path, seed=13, options=debug_options())) as world:
        before = world.status()["worker"]["pid"]

        def upgrade() -> None:
            module = tmp_path / f"gearsync-{time.monotonic_ns()}.so"
            shutil.copy(module_path(), module)
            with world.server.client(socket_timeout=60) as client:
                with client.pipeline(transaction=True) as pipe:
                    pipe.execute_command("MODULE", "UNLOAD", "gearsync")
                    pipe.execute_command("MODULE", "LOAD", str(module), "PYTHON", sys.executable)
                    pipe.execute()

        act_in_load(world, upgrade, nothing)
        until(lambda: world.status()["worker"]["state"] == "running", what="the worker")
        assert world.status()["worker"]["pid"] != before


def version_of(world: World) -> str:
    with world.server.client() as client:
        return str(client.info("server")["redis_version"])


@pytest.mark.skipif(
    len(SERVERS) < 2, reason="name servers, older first, in GEARSYNC_TEST_REDIS_SERVERS=old:new"
)
def test_the_server_is_upgraded(database_url: str, tmp_path: Path) -> None:
    """Ended in order, and started as the next newer one on the same data, with what waits."""
    world = World(database_url, tmp_path, seed=14)
    world.server.binary = SERVERS[0]
    with running(world):
        for binary in SERVERS[1:]:
            for thread in world.write(WRITES):
                thread.join()
            world.server.terminate()
            world.server.binary = binary
            world.restart_server()
            until(lambda: world.status()["worker"]["state"] == "running", what="the worker")
            print(f"on Redis {version_of(world)}")
            for thread in world.write(WRITES):
                thread.join()
            world.check()
