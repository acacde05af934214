"""Fixtures of the module's tests: one server for the quick ones, emptied before each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.module.driving import connect, module_server
from tests.integration.module.reading import Client, Start, Worker
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    """A server without persistence, for all tests of one file."""
    with module_server() as server:
        yield server


@pytest.fixture
def client(shared_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server that has no deployment and no key."""
    if shared_server.process is None or shared_server.process.poll() is not None:
        shared_server.restart()
    with connect(shared_server) as found:
        for name, *_ in found.execute_command("GEARSYNC.DEPLOYMENTS"):
            found.execute_command("GEARSYNC.UNDEPLOY", name, "DISCARD")
        found.flushall()
        yield found


@pytest.fixture
def worker(shared_server: RedisServer, client: redis.Redis) -> Iterator[Worker]:
    """The worker of the deployment ``people``, which the test plays."""
    found = Worker(shared_server)
    yield found
    found.redis.close()


@pytest.fixture
def start(shared_server: RedisServer) -> Start:
    """Starts a client of the server."""

    def start_client(*words: Any, **options: Any) -> Client:
        return Client(shared_server, *words, **options)

    return start_client
