"""GEARSYNC.MARK: a row that was read before a change of its key had come to SQL is not put after it."""

from __future__ import annotations

import pytest
import redis

from tests.integration.module.driving import acknowledge, connect, deploy, lanes, module_server, wait_for
from tests.integration.module.test_put import put


def mark(client: redis.Redis) -> bytes:
    reply: bytes = client.execute_command("GEARSYNC.MARK")
    return reply


def put_since(client: redis.Redis, since: bytes | str, *keys: str) -> list[str]:
    """Put a row for each key that is not there, as read before the mark; return the keys that got it."""
    words: list[object] = ["GEARSYNC.PUT", "people", 0, "ABSENT", "SINCE", since, 0, len(keys)]
    for key in keys:
        words += [key, 1, "first", "older"]
    count = client.execute_command(*words)
    there = [key for key in keys if client.exists(key)]
    assert count == len(there)
    return there


def write_and_delete(client: redis.Redis, *keys: str) -> None:
    for key in keys:
        client.hset(key, "first", "newer")
        client.delete(key)


@pytest.mark.parametrize("lane_count", [1, 8])
def test_what_came_to_sql_since_is_left_alone(client: redis.Redis, lane_count: int) -> None:
    deploy(client, lanes=lane_count)
    mark(client)
    write_and_delete(client, "person:1")
    acknowledge(client)
    write_and_delete(client, "person:2")
    since = mark(client)
    write_and_delete(client, "person:3")
    acknowledge(client)
    # Of 2 the change waited when the row was read, and 3 was changed later; all of it is in SQL by now.
    assert put_since(client, since, "person:1", "person:2", "person:3", "person:4") == [
        "person:1",
        "person:4",
    ]
    assert put_since(client, mark(client), "person:2", "person:3") == ["person:2", "person:3"]


def test_a_row_that_somebody_has_brought_since_is_newer(client: redis.Redis) -> None:
    deploy(client)
    since = mark(client)
    assert put(client, {"person:1": None}) == 0
    assert put_since(client, since, "person:1", "person:2") == ["person:2"]
    assert put_since(client, mark(client), "person:1") == ["person:1"]


def test_a_mark_from_before_a_flush_or_another_epoch_says_nothing(client: redis.Redis) -> None:
    deploy(client)
    before_flush = mark(client)
    client.flushall()
    assert put_since(client, before_flush, "person:1") == []
    before = mark(client)
    client.execute_command("GEARSYNC.EPOCH", int(client.execute_command("GEARSYNC.EPOCH")) + 1)
    assert put_since(client, before, "person:1") == []
    assert put_since(client, mark(client), "person:1") == ["person:1"]


def test_a_mark_from_before_a_restart_or_of_lanes_that_are_gone_says_nothing() -> None:
    with module_server("--appendonly", "yes") as server:
        with connect(server) as client:
            deploy(client)
            before = mark(client)
        server.restart()
        with connect(server) as client:
            assert put_since(client, before, "person:1") == []
            mark(client)
            write_and_delete(client, "person:1")
            of_one_lane = mark(client)
            deploy(client, lanes=2, version=2)
            acknowledge(client)
            wait_for(lambda: len(lanes(client)) == 2, "the retired lane is gone")
            assert put_since(client, of_one_lane, "person:1", "person:2") == []
            assert put_since(client, mark(client), "person:1") == ["person:1"]


@pytest.mark.parametrize(
    "text", ["", "1", "x 1", "1 x", "1 1 ", "1 1 lane", "1 1 lane 1", "1 1 lane 1-", "1 1\0"]
)
def test_what_is_no_mark(client: redis.Redis, text: str) -> None:
    deploy(client)
    mark(client)
    with pytest.raises(redis.ResponseError, match=r"use GEARSYNC\.PUT"):
        put_since(client, text, "person:1")
