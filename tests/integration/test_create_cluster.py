"""compose/create-cluster with real nodes, each on a loopback address of its own as containers are."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.choice import version_of
from tests.integration.deploying import ROOT
from tests.servers import RedisServer, find_redis_server, free_port

NODES = 3


class Node(RedisServer):
    """A cluster node that listens on one address alone; it may come back with another."""

    def __init__(self, directory: Path, address: str, port: int) -> None:
        options = ["--bind", address, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        if int(version_of(find_redis_server()).partition(".")[0]) >= 7:
            # As 6.2 does by itself: else nodes see each other come from 127.0.0.1.
            options += ["--bind-source-addr", address]
        super().__init__(*options, directory=directory, port=port)
        self.address = address

    def connect(self) -> redis.Redis:
        return redis.Redis(host=self.address, port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def _check_ready(self) -> None:
        with self.connect() as client:
            client.ping()


def addresses(first: int) -> list[str]:
    """Return an address for each node; skip where a machine has none but 127.0.0.1."""
    found = [f"127.0.0.{first + number}" for number in range(NODES)]
    for address in found:
        try:
            with socket.socket() as probe:
                probe.bind((address, 0))
        except OSError:
            pytest.skip(f"{address} can't be used on this machine")
    return found


def nodes(folder: Path, hosts: list[str], port: int) -> Iterator[Node]:
    for number, address in enumerate(hosts):
        directory = folder / f"shard-{number}"
        directory.mkdir(exist_ok=True)
        yield Node(directory, address, port)


def primaries(node: Node) -> dict[int, str]:
    """Return the address of each range of slots, by its first slot, as a node sees it."""
    with node.connect() as client:
        shards: Any = client.execute_command("CLUSTER SLOTS")
    return {first: primary[0].decode() for first, _, primary, *_ in shards}


def create_cluster(hosts: list[str], port: int) -> str:
    done = subprocess.run(
        [str(ROOT / "compose" / "create-cluster"), *hosts],
        env={"PORT": str(port), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("getent") is None,
    reason="compose/create-cluster needs redis-cli and getent, which its image has",
)
def test_the_nodes_become_one_cluster_and_stay_one_with_new_addresses(tmp_path: Path) -> None:
    port = free_port()
    before, after = addresses(11), addresses(21)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in nodes(tmp_path, before, port)]
        assert "The cluster runs" in create_cluster(before, port)
        found = primaries(running[0])
        assert sorted(found.values()) == before
        # Once more, as at each start of the containers: nothing is made anew.
        create_cluster(before, port)
        assert primaries(running[0]) == found
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in nodes(tmp_path, after, port)]
        create_cluster(after, port)
        moved = {first: after[before.index(address)] for first, address in found.items()}
        assert [primaries(node) for node in running] == [moved] * NODES
