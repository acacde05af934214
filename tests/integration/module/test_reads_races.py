"""Read-through, when something happens to a key whose row is being read."""

from __future__ import annotations

import itertools

import pytest
import redis

from tests.integration.module.driving import (
    Function,
    Read,
    acknowledge,
    changes,
    deploy,
    wait_for,
)
from tests.integration.module.reading import (
    ADA,
    Start,
    Worker,
    counts,
    deploy_reads,
    deploy_reads_alone,
    hash_of,
    until_waiting,
)

# -- What comes in between ----------------------------------------------------------------------------------


def test_a_write_in_between_wins(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    client.hset("person:1", "first", "newer")
    assert reader.result() == b"newer"
    assert worker.bring(taken, {"person:1": ADA}) == 0
    assert hash_of(client, "person:1") == {b"first": b"newer"}
    assert [each.image for each in changes(client)] == [{"first": "newer"}]


@pytest.mark.parametrize("captured", [True, False])
def test_what_is_deleted_in_between_is_read_again(
    client: redis.Redis, worker: Worker, start: Start, captured: bool
) -> None:
    """The row that was read first may be an older one: nobody may get it."""
    (deploy_reads if captured else deploy_reads_alone)(client)
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("person:1", "first", "x")
        pipe.delete("person:1")
        pipe.execute()
    # A write wakes the client; that the key is gone again by then is what it is told.
    assert reader.result() in (None, b"x")
    assert worker.bring(taken, {"person:1": ADA}) == 0
    reader = start("HGET", "person:1", "first")
    if captured:
        until_waiting(client)
        assert worker.take(1) == {}
        acknowledge(client)
    worker.serve({"person:1": {"first": "second"}})
    assert reader.result() == b"second"


def test_an_invalidation_in_between_is_read_again(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    client.execute_command("GEARSYNC.PUT", "people", 0, "REPLACE", 0, 1, "person:1", -1)
    assert worker.bring(taken, {"person:1": ADA}) == 0
    assert reader.waits
    assert not client.keys("person:*")
    worker.serve({"person:1": {"first": "second"}})
    assert reader.result() == b"second"


@pytest.mark.parametrize("lane_count", [1, 8])
@pytest.mark.parametrize("how", ["delete", "write, then evicted", "expire"])
def test_a_miss_waits_for_the_changes_of_its_key(
    client: redis.Redis, worker: Worker, start: Start, how: str, lane_count: int
) -> None:
    """Write-behind is behind: SQL still has the old row."""
    deploy_reads(client, lanes=lane_count)
    client.hset("person:1", "first", "old")
    acknowledge(client)
    if how == "delete":
        client.delete("person:1")
    elif how == "expire":
        client.pexpire("person:1", 1)
        wait_for(lambda: not client.keys("person:1"), "the time is over")
    else:
        client.hset("person:1", "first", "new")
        _evict(client, "person:1")
    reader = start("HGET", "person:1", "first")
    other = start("HGET", "person:2", "first")
    until_waiting(client, 2)
    assert worker.serve({"person:2": {"first": "Joe"}}) == ["person:2"]
    assert other.result() == b"Joe"
    assert worker.take(1) == {}
    assert reader.waits
    acknowledge(client)
    worker.serve({"person:1": {"first": "new"}} if how.startswith("write") else {})
    assert reader.result() == (b"new" if how.startswith("write") else None)


def _evict(client: redis.Redis, key: str) -> None:
    """Make the server evict one key; it has nothing else that may go."""
    client.expire(key, 1000)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("person", "x")
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    assert not client.keys(key)


@pytest.mark.parametrize("in_sql", [False, True])
@pytest.mark.parametrize("change", [["FLUSHALL"], ["GEARSYNC.RECAPTURE", "person:1"]])
def test_a_change_that_no_event_tells_of(
    client: redis.Redis, worker: Worker, start: Start, change: list[str], in_sql: bool
) -> None:
    """Rows go with a flush, or with a deletion that is captured again: what was read before is dropped."""
    deploy_reads(client, functions=(Function(flush="DELETE"),))
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    client.execute_command(*change)
    if in_sql:
        assert acknowledge(client) == 1
    assert worker.bring(taken, {"person:1": ADA}) == 0
    assert reader.waits
    if not in_sql:
        assert worker.take(1) == {}
        acknowledge(client)
    worker.serve({})
    assert reader.result() is None


def test_another_deployments_lane_counts_if_it_has_the_key(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads_alone(client)
    deploy(client, name="writers")
    deploy(client, Function("order:{id}"), name="orders")
    client.hset("order:1", "first", "x")
    client.delete("order:1")
    reader = start("HGET", "person:2", "first")
    assert worker.serve({"person:2": ADA}) == ["person:2"]
    assert reader.result() == b"Ada"
    client.delete("person:2")
    reader = start("HGET", "person:2", "first")
    until_waiting(client)
    assert worker.take(1) == {}
    acknowledge(client, "writers")
    worker.serve({"person:2": ADA})
    assert reader.result() == b"Ada"


def bucket(key: str) -> int:
    """The bucket of a key in a lane that is the only one (gears/module/lanes/waiting.c)."""
    hashed = 0xCBF29CE484222325
    for byte in key.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed % 65536


def neighbour(prefix: str, key: str) -> str:
    """Return another key of the same bucket."""
    names = (f"{prefix}:{number}" for number in itertools.count(1000))
    return next(name for name in names if bucket(name) == bucket(key))


def test_a_change_of_another_key_in_the_same_bucket(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    """It can't be told apart from one of the key, so the row is read once more; it is never lost."""
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    taken = worker.take()
    client.hset(neighbour("person", "person:1"), "first", "x")
    assert worker.bring(taken, {"person:1": ADA}) == 0
    assert reader.waits
    acknowledge(client)
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def test_a_deployment_that_stands_still_keeps_only_its_own_keys_back(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    deploy(client, Function("order:{id}"), name="orders")
    client.hset(neighbour("order", "person:1"), "first", "x")
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


# -- Refresh ahead ------------------------------------------------------------------------------------------


def load_one(client: redis.Redis, worker: Worker, start: Start, ttl: int) -> None:
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA}, ttl)
    assert reader.result() == b"Ada"


def test_a_hash_near_its_end_is_loaded_again_behind_the_reply(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client, Read(refresh=50_000))
    load_one(client, worker, start, 60_000)
    assert client.hget("person:1", "first") == b"Ada"
    assert worker.take(1) == {}
    client.pexpire("person:1", 40_000)
    for _ in range(3):
        assert client.hget("person:1", "first") == b"Ada"
    taken = worker.take()
    assert list(taken) == ["person:1"]
    assert worker.bring(taken, {"person:1": {"first": "Eve"}}, ttl=60_000) == 1
    assert hash_of(client, "person:1") == {b"first": b"Eve"}
    assert client.pttl("person:1") > 50_000
    assert changes(client) == []
    assert counts(client)["waiting"] == 0


def test_a_row_that_is_gone_takes_its_hash_with_it(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client, Read(refresh=50_000))
    load_one(client, worker, start, 40_000)
    client.hget("person:1", "first")
    worker.serve({})
    assert not client.keys("person:1")
    assert changes(client) == []


@pytest.mark.parametrize("how", ["write", "delete", "expire"])
def test_what_is_touched_is_not_refreshed(
    client: redis.Redis, worker: Worker, start: Start, how: str
) -> None:
    deploy_reads(client, Read(refresh=50_000))
    load_one(client, worker, start, 40_000)
    client.hget("person:1", "first")
    taken = worker.take()
    if how == "write":
        client.hset("person:1", "first", "newer")
    elif how == "delete":
        client.delete("person:1")
    else:
        client.persist("person:1")
    assert worker.bring(taken, {"person:1": {"first": "SQL"}}) == 0
    assert client.keys("person:1") == ([] if how == "delete" else [b"person:1"])
    if how != "delete":
        assert client.hget("person:1", "first") == (b"newer" if how == "write" else b"Ada")


def test_a_refresh_waits_for_the_changes_of_its_key(client: redis.Redis, worker: Worker) -> None:
    deploy_reads(client, Read(refresh=50_000))
    client.hset("person:1", "first", "newer")
    client.pexpire("person:1", 40_000)
    assert client.hget("person:1", "first") == b"newer"
    assert worker.take(1) == {}
    acknowledge(client)
    assert list(worker.take()) == ["person:1"]


def test_a_client_that_misses_joins_a_refresh(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads_alone(client, Read(refresh=50_000))
    load_one(client, worker, start, 40_000)
    client.hget("person:1", "first")
    worker.take()
    client.delete("person:1")
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": {"first": "Eve"}})
    assert reader.result() == b"Eve"
