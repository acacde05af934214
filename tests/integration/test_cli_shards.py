"""Reaching shards: every topology and every way it fails, by the commands as processes."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.reaching import shards
from deploy.reaching.server_errors import ShardError
from tests.integration import deployed
from tests.integration.command import gearsync, until
from tests.servers import RedisServer, ServerError, free_port

PASSWORD = "a:b@c/d e"
PASSWORD_IN_URL = "a%3Ab%40c%2Fd%20e"


def addresses(url: str) -> list[str]:
    done = gearsync("status", "--json", GEARSYNC_REDIS=url)
    assert done.returncode == 0, done.stderr
    return [each["address"] for each in json.loads(done.stdout)["shards"]]


@contextlib.contextmanager
def protected(*options: str) -> Iterator[RedisServer]:
    """A server that asks for PASSWORD; only from its start on, as the test server itself has none."""
    with deployed.server(*options) as server:
        with server.client() as client:
            client.config_set("masterauth", PASSWORD)
            client.config_set("requirepass", PASSWORD)
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Three primaries with all slots, and a replica of the first."""
    with contextlib.ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = [stack.enter_context(deployed.server(*options)) for _ in range(4)]
        clients = [stack.enter_context(node.client()) for node in nodes]
        for client in clients[1:]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for client, (first, last) in zip(clients, ((0, 5000), (5001, 11000), (11001, 16383))):
            client.execute_command("CLUSTER ADDSLOTS", *range(first, last + 1))
        until(lambda: len(clients[3].cluster("NODES")) == 4)
        clients[3].execute_command("CLUSTER REPLICATE", clients[0].execute_command("CLUSTER MYID"))
        until(lambda: all(_cluster_is_ok(client) for client in clients))
        until(lambda: clients[3].info("replication")["master_link_status"] == "up")
        for client in clients[:3]:
            deployed.deploy(client)
        yield nodes


def _cluster_is_ok(client: redis.Redis) -> bool:
    state = client.execute_command("CLUSTER INFO")
    return str(state.get("cluster_state")) == "ok" and int(state["cluster_known_nodes"]) == 4


def test_a_cluster_is_reached_from_any_node_and_replicas_are_left_out(cluster: list[RedisServer]) -> None:
    primaries = {f"127.0.0.1:{node.port}" for node in cluster[:3]}
    for node in cluster:
        assert set(addresses(node.url)) == primaries


def test_wait_covers_all_shards_of_a_cluster(cluster: list[RedisServer]) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=cluster[0].port) as client:
        for number in range(30):
            client.hset(f"person:{number}", "name", "Ada")
    late = gearsync("wait", "--redis", cluster[3].url, "--timeout", "0.3")
    assert late.returncode == 1
    assert late.stderr.count("changes wait.") == 3
    for node in cluster[:3]:
        with node.client() as one:
            deployed.apply_all(one)
    assert gearsync("wait", "--redis", cluster[3].url, "--timeout", "5").returncode == 0


def test_a_dead_letter_is_retried_on_the_shard_that_owns_its_key_now(cluster: list[RedisServer]) -> None:
    with cluster[0].client() as first:
        for number in range(20):
            deployed.bury(first, f"person:{number}", "no", {})
    done = gearsync("deadletters", "retry", "--redis", cluster[1].url, "--all")
    assert (done.returncode, done.stdout) == (0, "20 dead letters retried.\n"), done.stderr
    waiting = 0
    for node in cluster[:3]:
        with node.client() as one:
            waiting += sum(one.xlen(stream) for stream, _ in deployed.lanes(one))
            deployed.apply_all(one)
    assert waiting == 20


def test_a_unix_socket_with_a_password(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with protected("--unixsocket", str(socket)):
        assert addresses(f"unix://:{PASSWORD_IN_URL}@{socket}") == [str(socket)]


def test_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(deployed.server(*options))
        except ServerError as error:
            # Redis 6.2 and 7.0 do not know the options then; newer servers know them, and end.
            if "Bad directive" in str(error) or "Failed finding TLS support" in str(error):
                pytest.skip("this server was built without TLS")
            raise
        assert addresses(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}") == [f"127.0.0.1:{port}"]
        distrusted = gearsync("status", "--redis", f"rediss://127.0.0.1:{port}")
    assert distrusted.returncode == 1
    assert distrusted.stderr.startswith(
        f"Error: Redis at 127.0.0.1:{port} has a certificate that is refused: "
    )


def test_sentinels(tmp_path: Path) -> None:
    port = free_port()
    with protected() as primary:
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor people 127.0.0.1 {primary.port} 1\n"
            f'sentinel auth-pass people "{PASSWORD}"\n'
        )
        command = [primary.binary, str(config), "--sentinel"]
        sentinel = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                until(lambda: _knows_primary(client), 20)
            nodes = f"127.0.0.1:{free_port()},127.0.0.1:{port}"
            assert addresses(f"redis+sentinel://:{PASSWORD_IN_URL}@{nodes}/people") == [
                f"127.0.0.1:{primary.port}"
            ]
            unknown = gearsync("status", "--redis", f"redis+sentinel://127.0.0.1:{port}/poeple")
            with pytest.raises(ShardError, match=f"^127.0.0.1:{port} is a sentinel") as as_server:
                shards.connect(f"redis://127.0.0.1:{port}")
            as_sentinel = f"redis+sentinel://127.0.0.1:{primary.port}/people"
            with pytest.raises(ShardError, match="refused the login") as refused:
                shards.connect(as_sentinel)
            with pytest.raises(ShardError, match=f"^127.0.0.1:{primary.port} is no sentinel"):
                shards.connect(f"{as_sentinel}?sentinel_password={PASSWORD_IN_URL}")
        finally:
            sentinel.terminate()
            sentinel.wait()
    assert unknown.returncode == 1
    assert f"none of the sentinels 127.0.0.1:{port} knows a reachable primary called poeple" in unknown.stderr
    assert f"redis+sentinel://127.0.0.1:{port}/SERVICE" in as_server.value.hint
    assert "sentinel_password" in refused.value.hint


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/people"])
def test_a_port_of_something_else(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_as_a_web_server, args=(listener,), daemon=True)
        answering.start()
        with pytest.raises(ShardError, match="is no Redis"):
            shards.connect(url.format(listener.getsockname()[1]))


def _answer_as_a_web_server(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>")


def _knows_primary(client: redis.Redis) -> bool:
    try:
        masters: Any = client.sentinel_masters()
        [state] = masters.values()
        return (
            not state["is_disconnected"]
            and state["num-other-sentinels"] == 0
            and "s_down" not in state["flags"]
        )
    except redis.exceptions.ConnectionError:
        return False


def test_a_server_that_is_not_there() -> None:
    port = free_port()
    done = gearsync("status", "--redis", f"redis://:secret@127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: Redis at 127.0.0.1:{port} can't be reached: Connection refused.\n"
        "Try: start it (gearsync server), or correct --redis.\n"
    )


@pytest.mark.parametrize("credentials", ["", ":secret-word@", "nobody:secret-word@"])
def test_a_refused_login_shows_no_password(credentials: str) -> None:
    with protected() as server:
        done = gearsync("status", "--redis", f"redis://{credentials}127.0.0.1:{server.port}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: Redis at 127.0.0.1:{server.port} refused the login: ")
    assert "redis://user:password@host:port" in done.stderr
    assert "secret-word" not in done.stderr


def test_a_server_without_the_module() -> None:
    with RedisServer() as server:
        done = gearsync("status", "--redis", server.url)
    assert done.returncode == 1
    assert "has neither the gearsync module loaded nor RedisGears" in done.stderr
    assert '--loadmodule "$(gearsync module path)"' in done.stderr


def test_a_replica_is_named_as_such() -> None:
    with deployed.server() as primary:
        with deployed.server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
            done = gearsync("wait", "--redis", replica.url)
    assert done.returncode == 1
    assert f"Redis at 127.0.0.1:{replica.port} is a replica." in done.stderr


def test_a_user_without_rights() -> None:
    with deployed.server() as server:
        with server.client() as client:
            client.execute_command("ACL SETUSER", "reader", "on", ">word", "~*", "+@read", "-gearsync.status")
        done = gearsync("status", "--redis", f"redis://reader:word@127.0.0.1:{server.port}")
    assert done.returncode == 1
    assert "does not permit this" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "http://x",
        "redis://:pass word@host:port",
        "redis+sentinel://h:1",
        "redis+sentinel://h:x/s",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    done = gearsync("status", "--redis", url)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Try: " in done.stderr
    assert "pass word" not in done.stderr


def test_nothing_that_holds_a_password_shows_it() -> None:
    with protected() as server:
        url = f"redis://:{PASSWORD_IN_URL}@127.0.0.1:{server.port}/5?socket_timeout=9"
        with shards.connect(url) as found:
            assert PASSWORD not in repr(found.shards)
            assert PASSWORD_IN_URL not in repr(found.shards)
            assert found.shards[0].url == url.replace("/5", "")
            assert found.primaries[0].connection_pool.connection_kwargs["db"] == 0
