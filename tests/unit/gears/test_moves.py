"""How a worker reaches the other shards of its cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from gears.worker import moves


def told(connection_class: type, *ports: int, **options: Any) -> Any:
    """Return a client that is told shards of these ports."""
    slots = [[number, number, [b"10.0.0.%d" % number, port, b"id"]] for number, port in enumerate(ports)]
    pool = SimpleNamespace(connection_class=connection_class, connection_kwargs=options)
    return SimpleNamespace(execute_command=lambda *_: slots, connection_pool=pool)


def test_who_came_by_a_socket_goes_to_the_plain_ports() -> None:
    found = list(
        moves._primaries(told(redis.UnixDomainSocketConnection, 7000, 7001, path="/s", password="p"))
    )
    assert [address for address, _ in found] == ["10.0.0.0:7000", "10.0.0.1:7001"]
    for _, client in found:
        assert client.connection_pool.connection_class is redis.Connection
        assert client.connection_pool.connection_kwargs["password"] == "p"


def test_who_came_by_a_socket_is_told_where_there_is_tls_alone() -> None:
    with pytest.raises(redis.ConnectionError, match="TLS alone; start this worker with a rediss:// URL"):
        list(moves._primaries(told(redis.UnixDomainSocketConnection, 0, path="/s")))
