"""The module starts a worker where one is wanted, watches it, and ends it: with a script in Python's place.

The script writes down how it was called, and then does as the file ``mode`` beside it says.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.integration.module.driving import (
    acknowledge,
    connect,
    deploy,
    deployment_status,
    module_server,
    wait_for,
)
from tests.servers import RedisServer

SCRIPT = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/arguments"
tr '\\0' '\\n' </proc/$$/environ >"$here/environment"
ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> /\\1 /p' >"$here/descriptors"
read -r greeting
printf '%s' "$greeting" >"$here/greeting.new" && mv "$here/greeting.new" "$here/greeting"
mode=$(cat "$here/mode")
case $mode in
    exit*) exit "${mode#exit}" ;;
    stubborn) trap '' TERM ;;
esac
cat >/dev/null
echo "input ended" >"$here/ended"
"""


class Script:
    """The script in Python's place and what it wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "python"
        self.path.write_text(SCRIPT)
        self.path.chmod(0o755)
        self.mode("stay")

    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def said(self, name: str) -> str:
        """Return what the script wrote down under a name, once it has."""
        wait_for((self.folder / name).exists, name)
        return (self.folder / name).read_text()

    def greeting(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said("greeting"))
        return found


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def server(script: Script) -> Iterator[RedisServer]:
    with module_server(arguments=("PYTHON", str(script.path))) as found:
        yield found


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server) as found:
        yield found


def worker(client: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = deployment_status(client)["worker"]
    return found


def started(client: redis.Redis, **settings: Any) -> int:
    """Deploy with a worker of the module's; return its process id."""
    deploy(client, worker="SUPERVISED", **settings)
    return int(wait_for(lambda: worker(client)["pid"], "the worker's start"))


def is_gone(pid: int) -> bool:
    """Whether a process has ended and was reaped: a zombie is not gone."""
    return not psutil.pid_exists(pid)


def test_it_is_started_with_a_greeting_and_no_secret_outside_of_it(
    client: redis.Redis, script: Script, server: RedisServer
) -> None:
    client.config_set("requirepass", "s3cret/ü@:")
    client.execute_command("AUTH", "s3cret/ü@:")
    started(client, version=7)
    greeting = script.greeting()
    assert greeting["version"] == 7
    assert greeting["url"].endswith(f"@127.0.0.1:{server.port}")
    with redis.Redis.from_url(greeting["url"]) as reached:
        assert reached.ping()
    assert Path(greeting["work_dir"]) == server.directory
    assert script.said("arguments").split() == [
        "-m",
        "gears.worker",
        "--deployment",
        "people",
        "--supervised",
    ]
    assert "s3cret" not in script.said("arguments") + script.said("environment")
    assert "s3cret" not in server.log_text()


def test_it_inherits_no_descriptor_but_the_standard_ones(client: redis.Redis, script: Script) -> None:
    started(client)
    lines = script.said("descriptors").splitlines()
    # The shell itself has its script open, at 10 or above.
    open_ones = {int(line.split()[0]): line for line in lines if str(script.path) not in line}
    sockets = [line for number, line in open_ones.items() if number > 2 and "socket" in line]
    assert not sockets, sockets


def test_a_worker_that_dies_is_started_again_with_growing_pauses(client: redis.Redis, script: Script) -> None:
    script.mode("exit7")
    begin = time.monotonic()
    deploy(client, worker="SUPERVISED")
    wait_for(lambda: worker(client)["restarts"] >= 2, "two restarts")
    # Pauses of half a second and of one.
    assert time.monotonic() - begin > 1.4
    assert worker(client)["last_exit"] == "exit code 7"
    wait_for(lambda: worker(client)["state"] == "backoff", "the next pause")
    script.mode("stay")
    pid = int(wait_for(lambda: worker(client)["pid"], "the restart"))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker(client)["last_exit"] == "killed by signal 9", "what ended it")
    assert is_gone(pid)


def test_an_upgrade_starts_a_failed_worker_at_once(client: redis.Redis, script: Script) -> None:
    script.mode("exit1")
    deploy(client, worker="SUPERVISED")
    wait_for(lambda: worker(client)["restarts"] >= 2, "two restarts")
    script.mode("stay")
    begin = time.monotonic()
    started(client, version=2)
    assert time.monotonic() - begin < 1


def test_a_fenced_worker_stays_away_while_another_beats(client: redis.Redis, script: Script) -> None:
    script.mode("exit3")
    deploy(client, worker="SUPERVISED")
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "other", "{}")
    wait_for(lambda: worker(client)["last_exit"].startswith("fenced"), "the fence")
    restarts = worker(client)["restarts"]
    for _ in range(15):
        client.execute_command("GEARSYNC.HEARTBEAT", "people", "other", "{}")
        time.sleep(0.1)
    assert (worker(client)["restarts"], worker(client)["state"]) == (restarts, "fenced")


def test_heartbeats_make_it_running(client: redis.Redis) -> None:
    started(client)
    assert worker(client)["state"] == "starting"
    reply: Any = client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", '{"state": "running"}')
    assert reply == [1, 1, b"run"]
    assert worker(client)["state"] == "running"
    assert 0 <= worker(client)["heartbeat_age_ms"] < 5000
    assert worker(client)["report"] == {"state": "running"}


def test_undeploy_ends_it_when_its_lanes_are_empty(client: redis.Redis) -> None:
    pid = started(client)
    client.hset("person:1", "first", "Ada")
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    reply: Any = client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", "{}")
    assert reply[2] == b"drain"
    assert not is_gone(pid)
    acknowledge(client)
    wait_for(lambda: is_gone(pid), "the end of the worker")
    assert client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", "{}")[2] == b"stop"


def test_discard_ends_it_at_once(client: redis.Redis) -> None:
    pid = started(client)
    client.hset("person:1", "first", "Ada")
    client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
    wait_for(lambda: is_gone(pid), "the end of the worker")


def test_a_new_version_replaces_it(client: redis.Redis, script: Script) -> None:
    pid = started(client)
    deploy(client, version=2, worker="SUPERVISED")
    wait_for(lambda: worker(client)["pid"] not in (0, pid), "the new worker")
    assert is_gone(pid)
    wait_for(lambda: script.greeting()["version"] == 2, "the new greeting")


def test_a_replica_has_none_and_a_promoted_one_has(client: redis.Redis) -> None:
    pid = started(client)
    with module_server() as other:
        client.replicaof("127.0.0.1", other.port)
        wait_for(lambda: is_gone(pid), "the end of the worker")
        client.replicaof("NO", "ONE")
    deploy(client, version=2, worker="SUPERVISED")
    wait_for(lambda: worker(client)["pid"], "the worker of the primary")


def test_none_where_it_runs_elsewhere(client: redis.Redis, script: Script) -> None:
    pid = started(client)
    deploy(client, version=2, worker="EXTERNAL")
    wait_for(lambda: is_gone(pid), "the end of the worker")
    (script.folder / "greeting").unlink()
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "elsewhere", "{}")
    found = worker(client)
    assert (found["mode"], found["pid"], found["state"]) == ("external", 0, "running")
    assert not (script.folder / "greeting").exists()


@pytest.mark.parametrize("how", ["kill9", "terminate"])
def test_the_end_of_redis_ends_it(server: RedisServer, client: redis.Redis, script: Script, how: str) -> None:
    pid = started(client)
    script.greeting()
    client.close()
    getattr(server, how)()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "its end")


def test_unloading_the_module_ends_it(client: redis.Redis) -> None:
    pid = started(client)
    client.execute_command("MODULE", "UNLOAD", "gearsync")
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "its end")
    assert client.ping()


def test_a_python_that_is_not_there_is_said_and_redis_goes_on() -> None:
    with module_server(arguments=("PYTHON", "/nowhere/python")) as server, connect(server) as client:
        deploy(client, worker="SUPERVISED")
        wait_for(lambda: "can't be started" in worker(client)["last_exit"], "the reason")
        assert worker(client)["last_exit"] == "/nowhere/python can't be started: No such file or directory"
        client.hset("person:1", "first", "Ada")
        assert deployment_status(client)["backlog"]["entries"] == 1
        lines = [line for line in server.log_text().splitlines() if "can't be started" in line]
        assert 1 <= len(lines) <= 3


def test_none_at_all_when_the_module_is_told_so() -> None:
    with module_server() as server, connect(server) as client:
        deploy(client, worker="SUPERVISED")
        client.hset("person:1", "first", "Ada")
        assert (worker(client)["mode"], worker(client)["pid"]) == ("external", 0)
