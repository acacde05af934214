"""From rgsync to gearsync in one server, under way: the steps of docs/from-rgsync.md."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.deploying import ROOT, eventually, gearsync, write
from tests.integration.redisgears.recipes import RECIPE, World, running, skip_without_rgsync
from tests.sanitizers import module_path

skip_without_rgsync()


@contextmanager
def worker(world: World, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "deploy", "worker", "--redis", world.server.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RGSYNC_TEST_URL": world.url}
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def succeed(*arguments: str) -> None:
    run = gearsync(*arguments)
    assert run.returncode == 0, run.stderr


def test_moving_loses_no_write_and_mends_what_rgsync_lost(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RGSYNC_TEST_URL", postgres_url)
    functions = str(tmp_path / "functions.py")
    with running(postgres_url, tmp_path, "--enable-module-command", "yes") as world:
        world.register("RGWriteBehind", "person", onFailedRetryInterval=1)
        client = world.client
        for number in range(50):
            client.hset(f"person:{number}", mapping={"first_name": "before", "age": 1})
        client.hincrby("person:7", "age", 100)
        recipe = RECIPE.format(kind="RGWriteBehind", prefix="person", options={})
        succeed("migrate", write(tmp_path, recipe, "recipe.py"), "--output", functions)

        client.module_load(module_path(), "SUPERVISE", "no")
        with worker(world, tmp_path / "worker.log"):
            succeed("deploy", functions, "--redis", world.server.url)
            client.hset("person:50", mapping={"first_name": "both", "age": 1})
            client.hset("person:51", mapping={"age": 1})
            registered = {each["reader"]: each["id"] for each in world.server.registrations()}
            client.execute_command("RG.UNREGISTER", registered["KeysReader"])
            [stream] = client.keys("_persons-stream-*")
            eventually(lambda: client.xlen(stream) == 0)
            client.execute_command("RG.UNREGISTER", registered["StreamReader"])
            client.delete(stream)
            client.hset("person:52", mapping={"first_name": "after", "age": 1})
            client.execute_command("GEARSYNC.RECAPTURE", *client.scan_iter("person:*"))
            succeed("wait", "--timeout", "30", "--redis", world.server.url)

        before = [(number, "before", 101 if number == 7 else 1) for number in range(50)]
        assert world.rows() == [*before, (50, "both", 1), (51, None, 1), (52, "after", 1)]
