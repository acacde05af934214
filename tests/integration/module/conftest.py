"""Fixtures of the module's tests: one server for the quick ones, emptied before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.integration.module.driving import connect, module_server
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
