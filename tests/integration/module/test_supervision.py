"""The module starts a worker where one is wanted, watches it, ends it; a script stands in Python's place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from gears.worker.moving.moves import marks_waiting
from tests.integration.module.driving import (
    ALWAYS,
    acknowledge,
    connect,
    deploy,
    module_server,
    wait_for,
)
from tests.integration.module.preloading import build
from tests.integration.module.supervising import Script, descriptors, has_ended, is_gone, started, worker
from tests.sanitizers import are_asked_for, module_path
from tests.servers import RedisServer, ServerError
from tests.tls import NO_TLS, Certificates, TlsRedis

#: Loads modules as Valkey does from 8.1 on: the names in them are their own libraries' before the server's.
DEEPLY = """
#define _GNU_SOURCE
#include <dlfcn.h>

void *dlopen(const char *name, int flags) {
    void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return next(name, name ? flags | RTLD_DEEPBIND : flags);
}
"""


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


@pytest.mark.skipif(are_asked_for(), reason="the sanitizers can't be in a module that is loaded so")
def test_it_has_the_environment_of_the_server_however_the_module_was_loaded(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", str(build(tmp_path, "deeply", DEEPLY)))
    monkeypatch.setenv("GEARSYNC_TEST_WORD", "as the server has it")
    with module_server(arguments=("PYTHON", str(script.path))) as server, connect(server) as client:
        started(client)
        assert "GEARSYNC_TEST_WORD=as the server has it" in script.said("environment").split("\n")


def test_it_inherits_the_standard_descriptors_alone(script: Script, tmp_path: Path) -> None:
    options = (*ALWAYS, "--unixsocket", str(tmp_path / "redis.sock"), "--rdb-key-save-delay", "1000000")
    with module_server(*options, arguments=("PYTHON", str(script.path))) as server:
        with connect(server) as client, module_server("--replicaof", "127.0.0.1", str(server.port)) as copy:
            with connect(copy) as replica:
                wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the replica")
            wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], "the end of its copy")
            client.mset({str(number): "" for number in range(20)})
            client.bgsave()
            pid = started(client)
            # It has others of its own for a moment, while it starts.
            wait_for(lambda: sorted(descriptors(pid)) == [0, 1, 2], "the standard descriptors alone")


@pytest.mark.parametrize("socket", ["{folder}/a b%41#?.sock", "relative.sock"])
def test_the_greeting_leads_to_a_unix_socket(script: Script, tmp_path: Path, socket: str) -> None:
    path = socket.format(folder=tmp_path)
    with module_server("--unixsocket", path, arguments=("PYTHON", str(script.path))) as server:
        with connect(server) as client:
            client.config_set("requirepass", "p w/:@")
            client.execute_command("AUTH", "p w/:@")
            started(client)
            url = script.greeting()["url"]
            assert url.startswith("unix://")
            with redis.Redis.from_url(url) as reached:
                assert reached.ping()


def test_where_a_cluster_has_tls_alone_the_greeting_leads_there(script: Script, tmp_path: Path) -> None:
    """By the socket the other shards' plain ports are told, which are 0; by TLS their TLS ports."""
    own = Certificates(tmp_path)
    path = str(tmp_path / "redis.sock")
    options = ("--cluster-enabled", "yes", "--unixsocket", path)
    server = TlsRedis(own, *options, module=module_path(), module_arguments=["PYTHON", str(script.path)])
    try:
        server.start()
    except ServerError as error:
        if any(sign in str(error) for sign in NO_TLS):
            pytest.skip("this Redis was built without TLS")
        raise
    with closing(server.client()) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        started(client)
        url = script.greeting()["url"]
    try:
        assert list(marks_waiting(url, "people", "t1").marks.values()) == [[]]
    finally:
        server.stop()


def test_without_config_it_is_told_what_to_do(script: Script) -> None:
    renamed = ("--rename-command", "CONFIG", "")
    with module_server(*renamed, arguments=("PYTHON", str(script.path))) as server, connect(server) as client:
        deploy(client, worker="SUPERVISED")
        wait_for(lambda: "CONFIG is renamed" in worker(client)["last_exit"], "the reason")
        assert worker(client)["last_exit"].endswith("load gearsync with URL redis://host:port")
        assert (worker(client)["pid"], worker(client)["state"]) == (0, "backoff")
    arguments = ("PYTHON", str(script.path), "URL", "redis://elsewhere:1")
    with module_server(*renamed, arguments=arguments) as server, connect(server) as client:
        started(client)
        assert script.greeting()["url"] == "redis://elsewhere:1"


def test_the_signal_that_killed_it_is_told(client: redis.Redis) -> None:
    pid = started(client)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker(client)["last_exit"] == "killed by signal 9", "what ended it")
    assert is_gone(pid)
    wait_for(lambda: worker(client)["pid"] not in (0, pid), "the restart")
    assert worker(client)["restarts"] == 1


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


def test_it_moves_with_the_role(client: redis.Redis, server: RedisServer, tmp_path: Path) -> None:
    pid = started(client)
    (tmp_path / "copy").mkdir()
    other = Script(tmp_path / "copy")
    link = ("--replicaof", "127.0.0.1", str(server.port))
    with module_server(*link, arguments=("PYTHON", str(other.path))) as copy, connect(copy) as replica:
        wait_for(lambda: deployed(replica), "the deployment")
        assert (worker(replica)["pid"], worker(replica)["state"]) == (0, "stopped")
        replica.replicaof("NO", "ONE")
        taken_over = wait_for(lambda: worker(replica)["pid"], "the worker of the promoted one")
        client.replicaof("127.0.0.1", copy.port)
        wait_for(lambda: is_gone(pid), "the end of the old worker")
        wait_for(lambda: worker(client)["state"] == "stopped", "the old primary's status")
        assert client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", "{}")[2] == b"stop"
        assert (worker(replica)["pid"], is_gone(taken_over)) == (taken_over, False)


def deployed(client: redis.Redis) -> list[Any]:
    found: list[Any] = client.execute_command("GEARSYNC.DEPLOYMENTS")
    return found


def test_none_where_it_runs_elsewhere(client: redis.Redis, script: Script) -> None:
    pid = started(client)
    deploy(client, version=2, worker="EXTERNAL")
    wait_for(lambda: is_gone(pid), "the end of the worker")
    (script.folder / "greeting").unlink()
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "elsewhere", "{}")
    found = worker(client)
    assert (found["mode"], found["pid"], found["state"]) == ("external", 0, "running")
    assert not (script.folder / "greeting").exists()


@pytest.mark.parametrize("how", ["kill9", "terminate", "shutdown"])
def test_the_end_of_redis_ends_it(server: RedisServer, client: redis.Redis, script: Script, how: str) -> None:
    pid = started(client)
    script.greeting()
    if how == "shutdown":
        client.shutdown(nosave=True)
    else:
        client.close()
        getattr(server, how)()
    wait_for(lambda: has_ended(pid), "its end")


def test_unloading_the_module_leaves_no_process(
    client: redis.Redis, script: Script, server: RedisServer
) -> None:
    script.mode("deaf")
    pid = started(client)
    script.greeting()
    client.execute_command("MODULE", "UNLOAD", "gearsync")
    wait_for(lambda: is_gone(pid), "its end")
    assert client.ping()
    assert psutil.Process(server.pid).children() == []


def test_a_server_that_saves_takes_its_exit_code(client: redis.Redis, script: Script) -> None:
    """While it has a child of its own, Redis reaps whatever child has ended."""
    pid = started(client)
    script.greeting()
    client.config_set("rdb-key-save-delay", 1_000_000)
    client.mset({str(number): "" for number in range(100)})
    client.bgsave()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker(client)["pid"] not in (0, pid), "the restart")
    assert worker(client)["last_exit"] in ("ended, status unknown", "killed by signal 9")
    assert client.info("persistence")["rdb_bgsave_in_progress"] == 1


def test_none_at_all_when_the_module_is_told_so() -> None:
    with module_server() as server, connect(server) as client:
        deploy(client, worker="SUPERVISED")
        client.hset("person:1", "first", "Ada")
        assert (worker(client)["mode"], worker(client)["pid"]) == ("external", 0)
