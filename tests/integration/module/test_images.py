"""GEARSYNC.IMAGES: hashes as they are, and whether a change of theirs is on its way."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from deploy.hosts import many
from deploy.reaching.connections import same_server
from tests.integration.module.driving import acknowledge, deploy
from tests.integration.module.test_marks import mark


def images(client: redis.Redis, *words: object) -> Any:
    return client.execute_command("GEARSYNC.IMAGES", 0, *words)


def test_fields_whole_hashes_and_what_is_none(client: redis.Redis) -> None:
    client.hset("h", mapping={"a": "1", "b": "2"})
    client.set("s", "x")
    assert images(client, 2, "b", "z", "h", "s", "gone") == [[[b"2", None], None, None], []]
    assert images(client, 0, "h", "gone") == [[[], None], []]
    whole, _ = images(client, -1, "h")
    assert sorted(zip(whole[0][::2], whole[0][1::2])) == [(b"a", b"1"), (b"b", b"2")]
    with pytest.raises(redis.ResponseError, match=r"use GEARSYNC\.IMAGES"):
        images(client, 9, "a")


def test_many_are_asked_for_also_when_the_connection_is_cut(client: redis.Redis) -> None:
    client.hset("h", "a", "1")
    with same_server(client) as other:
        keys = [b"h", *(b"gone:%d" % number for number in range(3000))]
        assert many.execute(other, "GEARSYNC.IMAGES", 0, 1, "a", *keys)[0] == [[b"1"], *[None] * 3000]
        with pytest.raises(redis.ResponseError, match=r"use GEARSYNC\.IMAGES"):
            many.execute(other, "GEARSYNC.IMAGES", 0, 9, "a")
        client.client_kill_filter(_type="normal", skipme=True)
        assert many.execute(other, "GEARSYNC.IMAGES", 0, 1, "a", "h") == [[[b"1"]], []]


def test_no_change_that_waits_or_came_to_sql_since_is_passed_over(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "first", "a")
    acknowledge(client)
    since = mark(client)
    assert images(client, "SINCE", since, 1, "first", "person:1") == [[[b"a"]], []]
    client.hset("person:1", "first", "b")
    assert images(client, "SINCE", since, 1, "first", "person:1") == [[[b"b"]], [0]]
    assert images(client, "SINCE", mark(client), 1, "first", "person:2", "person:1")[1] == [1]
    acknowledge(client)
    # A row that was read after the mark may be the old one, although nothing waits any more.
    assert images(client, "SINCE", since, 1, "first", "person:1")[1] == [0]
    assert images(client, "SINCE", mark(client), 1, "first", "person:1")[1] == []


def test_a_key_whose_time_is_over_is_gone_and_its_change_waits(client: redis.Redis) -> None:
    deploy(client)
    # Nobody but a reader makes keys go.
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client.hset("person:1", "first", "a")
    client.pexpire("person:1", 5)
    acknowledge(client)
    since = mark(client)
    time.sleep(0.02)
    assert images(client, "SINCE", since, 1, "first", "person:1") == [[None], [0]]
