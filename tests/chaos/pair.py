"""A primary and its replica, both with the module, and a Sentinel that watches them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.chaos.world import until
from tests.sanitizers import module_path
from tests.servers import RedisServer, Server, find_redis_server, run_sql


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have variables in this process, from which servers, and their workers, inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def pair(variables: Mapping[str, str]) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, in sync; each starts a worker when it is the primary."""
    options = ("--appendonly", "yes", "--appendfsync", "always")

    def node(*more: str) -> RedisServer:
        arguments = ("PYTHON", sys.executable)
        return RedisServer(*options, *more, module=module_path(), module_arguments=arguments)

    with environment(variables), node() as first:
        with node("--replicaof", "127.0.0.1", str(first.port)) as second, second.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", what="the link")
            yield first, second


class SentinelServer(Server):
    """A Sentinel that alone may fail a primary over."""

    name = "sentinel"

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self._primary = primary

    def _prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.directory}",
            f"sentinel monitor shard 127.0.0.1 {self._primary.port} 1",
            "sentinel down-after-milliseconds shard 1000",
            "sentinel failover-timeout shard 10000",
        ]
        (self.directory / "sentinel.conf").write_text("\n".join([*lines, ""]))

    def _command(self) -> list[str]:
        return [find_redis_server(), str(self.directory / "sentinel.conf"), "--sentinel"]

    def _check_ready(self) -> None:
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.ping()

    def primary_port(self) -> int:
        """Return the port of the primary as the Sentinel knows it."""
        with redis.Redis(port=self.port) as client:
            address: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shard")
        return int(address[1])


class Difference(NamedTuple):
    """What Redis and a table do not have in common, by the number in the key."""

    only_in_redis: set[int]
    only_in_sql: set[int]
    differing: set[int]


def compare(client: redis.Redis, url: str) -> Difference:
    """Compare all ``person:<id>`` hashes with the rows of persons, by their versions."""
    hashes = {}
    for key in client.scan_iter("person:*", count=1000):
        value: Any = client.hget(key, "version")
        hashes[int(key.split(b":")[1])] = int(value)
    rows = {row[0]: row[1] for row in run_sql(url, "SELECT person_id, version FROM persons")}
    both = set(hashes) & set(rows)
    differing = {number for number in both if hashes[number] != rows[number]}
    return Difference(set(hashes) - both, set(rows) - both, differing)


def functions_file(folder: Path, text: str) -> str:
    """Write a file of functions; return its path."""
    path = folder / "functions.py"
    path.write_text(text)
    return str(path)
