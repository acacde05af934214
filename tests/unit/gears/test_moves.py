"""How a worker reaches the other shards of its cluster."""

from __future__ import annotations

import contextlib
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from gears.worker import lanes
from gears.worker.moving import moves


def told(connection_class: type, *ports: int, **options: Any) -> Any:
    """Return a client that is told shards of these ports."""
    slots = [[number, number, [b"10.0.0.%d" % number, port, b"id"]] for number, port in enumerate(ports)]
    pool = SimpleNamespace(connection_class=connection_class, connection_kwargs=options)
    return SimpleNamespace(execute_command=lambda *_: slots, connection_pool=pool)


def test_who_came_by_a_socket_goes_to_the_plain_ports() -> None:
    found = list(moves.primaries(told(redis.UnixDomainSocketConnection, 7000, 7001, path="/s", password="p")))
    assert [address for address, _ in found] == ["10.0.0.0:7000", "10.0.0.1:7001"]
    for _, client in found:
        assert client.connection_pool.connection_class is redis.Connection
        assert client.connection_pool.connection_kwargs["password"] == "p"


def test_who_came_by_a_socket_is_told_where_there_is_tls_alone() -> None:
    with pytest.raises(redis.ConnectionError, match="TLS alone; start this worker with a rediss:// URL"):
        list(moves.primaries(told(redis.UnixDomainSocketConnection, 0, path="/s")))


def answering(monkeypatch: pytest.MonkeyPatch, failure: redis.RedisError) -> None:
    """Have every shard answer so."""

    def answer(*_: object) -> None:
        raise failure

    client: Any = SimpleNamespace(execute_command=answer)
    client.client = lambda: contextlib.nullcontext(client)
    monkeypatch.setattr(lanes, "connect", lambda url: contextlib.nullcontext(client))
    monkeypatch.setattr(moves, "node_at", lambda *_: contextlib.nullcontext(client))


def test_who_may_not_have_a_key_captured_anew_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, redis.exceptions.NoPermissionError("no right to gearsync.backfill"))
    with caplog.at_level(logging.WARNING):
        moves.renew("redis://", b"person:1")
    [record] = caplog.records
    assert "b'person:1' ended while its slot moved" in record.getMessage()
    assert "gearsync verify --repair" in record.getMessage()


def test_a_key_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, redis.exceptions.MovedError("1 127.0.0.1:7000"))
    with pytest.raises(redis.ConnectionError, match="from shard to shard"):
        moves.renew("redis://", b"person:1")


def test_a_shard_that_can_not_answer_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, redis.exceptions.ClusterDownError("the cluster is down"))
    with pytest.raises(redis.exceptions.ClusterDownError):
        moves.renew("redis://", b"person:1")


def test_a_key_that_a_client_writes_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its write may be refused; then nothing else would bring what the key has."""
    client: Any = SimpleNamespace(execute_command=lambda *_: [moves.BEING_WRITTEN])
    monkeypatch.setattr(lanes, "connect", lambda url: contextlib.nullcontext(client))
    with pytest.raises(redis.RedisError, match="waits for SQL"):
        moves.renew("redis://", b"person:1")
    client.execute_command = lambda *_: [1]
    moves.renew("redis://", b"person:1")
