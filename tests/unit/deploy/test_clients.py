"""Clients of shards that are asked for again and again."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from deploy.reaching import shards
from deploy.reaching.clients import Clients
from deploy.reaching.shards import Shard, Shards


def found(first: int = 0) -> Shards:
    places = (("h:1", ((first, 99),)), ("h:2", ((100, 16383),)))
    return Shards("cluster", [Shard(at, redis.Redis(), "", slots) for at, slots in places], "redis://h")


def test_shards_that_are_as_they_were_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison asks for them with each look: it ran out of connections while clients wrote a key on."""
    closed: list[Any] = []

    def close(self: Shards) -> None:
        closed.append(self)

    monkeypatch.setattr(Shards, "close", close)
    known, same, moved = found(), found(), found(5)
    with Clients() as clients:
        monkeypatch.setattr(shards, "connect", lambda *_: same)
        assert clients.again(known) is known
        assert closed == [same]
        monkeypatch.setattr(shards, "connect", lambda *_: moved)
        assert clients.again(known) is moved
        assert closed == [same]
    assert closed == [same, moved]
