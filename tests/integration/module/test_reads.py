"""What clients get of read-through; the test takes the misses itself and brings the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Read,
    acknowledge,
    changes,
    server_version,
    wait_for,
)
from tests.integration.module.reading import (
    ADA,
    Client,
    Start,
    Worker,
    counts,
    deploy_reads,
    deploy_reads_alone,
    until_waiting,
)

# -- What a client gets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (("HGET", "person:1", "first"), b"Ada"),
        (("hget", "person:1", "none"), None),
        (("HMGET", "person:1", "age", "none"), [b"36", None]),
        (("HEXISTS", "person:1", "age"), True),
        (("HLEN", "person:1"), 2),
        (("HSTRLEN", "person:1", "first"), 3),
        (("HKEYS", "person:1"), [b"first", b"age"]),
        (("HVALS", "person:1"), [b"Ada", b"36"]),
        (("HRANDFIELD", "person:1", "5"), [b"first", b"age"]),
        (("EXISTS", "person:1"), 1),
        (("EXISTS", "person:1", "person:2", "person:1", "other"), 2),
        (("TYPE", "person:1"), b"hash"),
    ],
)
def test_a_read_replies_as_if_the_row_had_been_there(
    client: redis.Redis, worker: Worker, start: Start, words: Sequence[str], reply: Any
) -> None:
    deploy_reads(client)
    reader = start(*words)
    worker.serve({"person:1": ADA})
    found = reader.result()
    assert (sorted(found) if isinstance(found, list) and None not in found else found) == (
        sorted(reply) if isinstance(reply, list) and None not in reply else reply
    )
    assert client.execute_command(*words) == found
    assert changes(client) == []
    assert client.pttl("person:1") == -1


def test_hgetall_in_both_protocols(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    for number, protocol in enumerate((2, 3) if server_version() >= (7, 0) else (2,)):
        reader = start("HGETALL", f"person:{number}", protocol=protocol)
        worker.serve({f"person:{number}": {"a": "1", "b": "2"}})
        found = reader.result()
        pairs = list(found.items()) if isinstance(found, dict) else list(zip(found[::2], found[1::2]))
        assert sorted(pairs) == [(b"a", b"1"), (b"b", b"2")]


def test_a_loaded_hash_lives_as_long_as_the_function_says(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA}, ttl=60_000)
    assert reader.result() == b"Ada"
    assert 0 < client.pttl("person:1") <= 60_000


def test_many_clients_of_one_key_are_one_miss_and_many_keys_one_answer(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client)
    readers = [start("HGET", f"person:{number % 5}", "first") for number in range(20)]
    until_waiting(client, 20)
    keys = [f"person:{number}" for number in range(5)]
    assert worker.serve({key: {"first": key} for key in keys}) == keys
    assert [each.result() for each in readers] == [f"person:{number % 5}".encode() for number in range(20)]
    assert worker.take(1) == {}
    assert counts(client) == {"misses": 20, "loaded": 5, "missing": 0, "waiting": 0, "failed": 0}


def test_only_the_client_that_misses_waits(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    client.hset("person:2", "first", "Joe")
    reader = start("HGET", "person:1", "first")
    until_waiting(client)
    assert client.hget("person:2", "first") == b"Joe"
    assert client.get("person:1") is None
    assert reader.waits
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def test_other_keys_and_other_commands_are_left_alone(client: redis.Redis) -> None:
    deploy_reads(client, Read(timeout=1))
    assert client.hget("other:1", "first") is None
    assert client.hget("person:1:2", "first") is None
    assert client.get("person:1") is None
    assert client.ttl("person:1") == -2
    for words in (("HGET", "person:1"), ("HGETALL", "person:1", "more"), ("EXISTS",), ("HRANDFIELD",)):
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            client.execute_command(*words)
    assert counts(client)["misses"] == 0


def test_a_key_of_another_type_is_what_it_is(client: redis.Redis) -> None:
    deploy_reads_alone(client, Read(timeout=1))
    client.set("person:1", "text")
    assert client.type("person:1") == b"string"
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.hget("person:1", "first")


def test_a_hash_whose_time_ends_under_its_readers(client: redis.Redis, worker: Worker, start: Start) -> None:
    """It may be there when the filter looks, and gone when the command runs: a miss like any other."""
    deploy_reads_alone(client, Read(missing=0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            taken = worker.take(50)
            worker.bring(taken, dict.fromkeys(taken, ADA), ttl=2)

    def read() -> Any:
        """What a read gave. If it took so long, its row may well have come and gone before it was told."""
        begun = time.monotonic()
        found = client.hget("person:1", "first")
        return b"Ada" if found is None and time.monotonic() - begun > 0.002 else found

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert {read() for _ in range(2500)} == {b"Ada"}
    finally:
        over.set()
        thread.join(30)
    assert counts(client)["loaded"] > 10


# -- Rows that do not exist ---------------------------------------------------------------------------------


def test_a_row_that_does_not_exist_is_remembered_for_a_while(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client, Read(missing=300))
    readers = [start("HGET", "person:1", "first"), start("HLEN", "person:1")]
    until_waiting(client, 2)
    worker.serve({})
    assert [each.result() for each in readers] == [None, 0]
    assert client.hget("person:1", "first") is None
    assert counts(client) == {"misses": 2, "loaded": 0, "missing": 1, "waiting": 0, "failed": 0}
    # In vain as long as it is remembered; then a client waits again.
    reader = wait_for(lambda: _waiting_client(client, start), "the memory ends")
    assert reader is not None
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def _waiting_client(client: redis.Redis, start: Start) -> Client | None:
    """Return a client that waits; None: it has got its answer."""
    reader = start("HGET", "person:1", "first")
    wait_for(lambda: counts(client)["waiting"] == 1 or not reader.waits, "the client")
    return reader if reader.waits else None


def test_nothing_is_remembered_if_the_function_says_so(
    client: redis.Redis, worker: Worker, start: Start
) -> None:
    deploy_reads(client, Read(missing=0))
    for _ in range(2):
        reader = start("HGET", "person:1", "first")
        assert worker.serve({}) == ["person:1"]
        assert reader.result() is None


def test_a_write_ends_the_memory(client: redis.Redis, worker: Worker, start: Start) -> None:
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    worker.serve({})
    assert reader.result() is None
    client.hset("person:1", "first", "Eve")
    client.delete("person:1")
    acknowledge(client)
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"


def test_put_of_no_row_ends_the_memory(client: redis.Redis, worker: Worker, start: Start) -> None:
    """A row that others have inserted: its follower invalidates the key, which is not there."""
    deploy_reads(client)
    reader = start("HGET", "person:1", "first")
    worker.serve({})
    assert reader.result() is None
    client.execute_command("GEARSYNC.PUT", "people", 0, "REPLACE", 0, 1, "person:1", -1)
    reader = start("HGET", "person:1", "first")
    worker.serve({"person:1": ADA})
    assert reader.result() == b"Ada"
