"""What the module does with its workers in the course of time, with a clock that is set forward."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.integration.module.clock import Clock
from tests.integration.module.driving import connect, deploy, module_server, wait_for
from tests.integration.module.supervising import Script, is_gone, started, worker
from tests.servers import RedisServer


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def server(script: Script, clock: Clock) -> Iterator[RedisServer]:
    with clock.runs(module_server(arguments=("PYTHON", str(script.path)))) as found:
        yield found


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server) as found:
        yield found


def always(probe: Callable[[], bool], seconds: float = 0.3) -> None:
    """Fail when probe is false during some ticks of the module, one each 0.1 s."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert probe()
        time.sleep(0.01)


def restarted(client: redis.Redis, times: int) -> None:
    wait_for(lambda: worker(client)["restarts"] >= times, "the restart")


def fail_until_the_longest_pause(client: redis.Redis, script: Script, clock: Clock) -> None:
    script.mode("exit7")
    deploy(client, worker="SUPERVISED")
    for restart in range(7):
        restarted(client, restart)
        wait_for(lambda: worker(client)["state"] == "backoff", "the pause")
        if restart < 6:
            clock.advance(31)


def test_pauses_grow_to_half_a_minute_and_fall_back_after_a_steady_run(
    client: redis.Redis, script: Script, clock: Clock
) -> None:
    fail_until_the_longest_pause(client, script, clock)
    assert worker(client)["last_exit"] == "exit code 7"
    script.mode("stay")
    clock.advance(20)
    always(lambda: (worker(client)["state"], worker(client)["pid"]) == ("backoff", 0))
    clock.advance(10)
    pid = int(wait_for(lambda: worker(client)["pid"], "the restart"))
    clock.advance(61)
    os.kill(pid, signal.SIGKILL)
    # Without the fall back it would be half a minute.
    wait_for(lambda: worker(client)["pid"] not in (0, pid), "the restart after a short pause", 10)
    assert worker(client)["last_exit"] == "killed by signal 9"


def test_a_short_run_keeps_the_long_pause(client: redis.Redis, script: Script, clock: Clock) -> None:
    fail_until_the_longest_pause(client, script, clock)
    script.mode("stay")
    clock.advance(31)
    pid = int(wait_for(lambda: worker(client)["pid"], "the restart"))
    clock.advance(20)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker(client)["state"] == "backoff", "the pause")
    clock.advance(15)
    always(lambda: worker(client)["pid"] == 0)


def test_an_upgrade_starts_a_failed_worker_at_once(client: redis.Redis, script: Script, clock: Clock) -> None:
    fail_until_the_longest_pause(client, script, clock)
    script.mode("stay")
    deploy(client, version=2, worker="SUPERVISED")
    wait_for(lambda: worker(client)["pid"], "the new worker, half a minute early", 10)


def test_a_fenced_worker_comes_back_when_the_other_one_is_silent(
    client: redis.Redis, script: Script, clock: Clock
) -> None:
    script.mode("exit3")
    deploy(client, worker="SUPERVISED")
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "other", "{}")
    wait_for(lambda: worker(client)["state"] == "fenced", "the fence")
    assert worker(client)["last_exit"] == "fenced: another worker owns the lanes"
    script.mode("stay")
    clock.advance(6)
    assert wait_for(lambda: worker(client)["pid"], "the worker")


@pytest.mark.parametrize("act", ["upgrade", "discard"])
def test_a_worker_that_does_not_listen_is_killed_with_its_children(
    client: redis.Redis, script: Script, clock: Clock, act: str
) -> None:
    script.mode("deaf")
    pid = started(client)
    child = wait_for(lambda: [p for p in psutil.Process(pid).children() if p.name() == "sleep"], "a child")
    script.mode("stay")
    if act == "upgrade":
        deploy(client, version=2, worker="SUPERVISED")
    else:
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
    wait_for((script.folder / "asked").exists, "the worker is asked to end")
    clock.advance(14)
    always(lambda: not is_gone(pid))
    clock.advance(2)
    wait_for(lambda: is_gone(pid), "the end of the worker")
    wait_for(lambda: not child[0].is_running() or child[0].status() == "zombie", "the end of its child")
    if act == "upgrade":
        wait_for(lambda: worker(client)["pid"] not in (0, pid), "the new worker")


def test_a_python_that_is_not_there_is_said_once_and_used_when_it_is(tmp_path: Path, clock: Clock) -> None:
    absent = module_server(arguments=("PYTHON", str(tmp_path / "python")))
    with clock.runs(absent) as server, connect(server) as client:
        deploy(client, worker="SUPERVISED")
        wait_for(lambda: worker(client)["state"] == "backoff", "the pause")
        for _ in range(4):
            clock.advance(31)
            always(lambda: worker(client)["state"] == "backoff")
        reason = f"{tmp_path / 'python'} can't be started: No such file or directory"
        assert worker(client)["last_exit"] == reason
        client.hset("person:1", "first", "Ada")
        lines = [line for line in server.log_text().splitlines() if "can't be started" in line]
        assert len(lines) == 1 and f"worker of people: {reason}" in lines[0]
        Script(tmp_path)
        clock.advance(31)
        wait_for(lambda: worker(client)["pid"], "the worker")
