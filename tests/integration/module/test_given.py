"""Images that are taken from the command, not read from the hash, are what the hash holds all the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.module.building import build
from tests.integration.module.driving import (
    FIELDS,
    Change,
    Function,
    changes,
    connect,
    debug_options,
    deploy,
    lanes,
)
from tests.sanitizers import module_path
from tests.servers import RedisServer

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())[
    "changes"
]
KEY = "person:1"
ADA = ("first", "Ada", "last", "Byron", "age", "36")
SET_TWICE = "redis.call('hset', KEYS[1], unpack(ARGV)) redis.call('hset', KEYS[1], 'age', '37')"
SET_AND_REMOVE = "redis.call('hset', KEYS[1], unpack(ARGV)) redis.call('hdel', KEYS[1], 'age')"
SET_AND_DELETE = "redis.call('hset', KEYS[1], unpack(ARGV)) redis.call('del', KEYS[1])"


def mapped(client: redis.Redis, key: str = KEY, fields: tuple[str, ...] = FIELDS) -> dict[str, str]:
    found: Any = client.hgetall(key)
    held = {name.decode("latin-1"): value.decode("latin-1") for name, value in found.items()}
    return {name: held[name] for name in fields if name in held}


def transaction(client: redis.Redis, *commands: tuple[Any, ...]) -> None:
    with client.pipeline(transaction=True) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        pipe.execute()


@pytest.mark.parametrize(
    "words",
    [
        ("HSET", KEY, *ADA),
        ("hMset", KEY, *ADA),
        ("HSET", KEY, "age", "36", "first", "Ada", "last", "Byron"),
        ("HSET", KEY, *ADA, "more", "x"),
        ("HSET", KEY, *ADA, "first", "the last one counts"),
        ("HSET", KEY, "first", "no", "last", "Byron", "first", "Ada", "age", "36"),
        ("HSET", KEY, "first", "a", "first", "b", "first", "c"),
        ("HSET", KEY, "first", "Ada"),
        ("HSET", KEY, "first", "\x1f", "last", "\x00\x1f\xff", "age", ""),
        ("HSET", KEY, *(text for name in FIELDS for text in (name, bytes(range(256))))),
        ("EVAL", "return redis.call('hset', KEYS[1], unpack(ARGV))", 1, KEY, *ADA),
        ("EVAL", SET_TWICE, 1, KEY, *ADA),
        ("EVAL", SET_AND_REMOVE, 1, KEY, *ADA),
    ],
)
def test_the_change_is_what_the_hash_holds(client: redis.Redis, words: tuple[Any, ...]) -> None:
    client.hset(KEY, mapping={"age": "1", "first": "before", "else": "x"})
    deploy(client)
    client.execute_command(*words)
    assert changes(client)[-1].image == mapped(client)
    both = [Function(target="t1"), Function(target="t2", fields=None)]
    deploy(client, *both, name="more", targets=("t1", "t2"))
    client.execute_command(*words)
    assert changes(client)[-1].image == changes(client, "more")[-1].image == mapped(client)
    assert changes(client, "more", "t2")[-1].image == mapped(client, fields=(*FIELDS, "else", "more"))


def test_random_writes_are_what_the_hash_holds(client: redis.Redis) -> None:
    deploy(client)
    dice = random.Random(7)
    for step in range(200):
        names = [dice.choice((*FIELDS, "more")) for _ in range(dice.randrange(1, 5))]
        names = list(FIELDS) if step % 2 else names
        pairs = [text for name in names for text in (name, f"{name} {step} {dice.random()}")]
        write = ("HSET", KEY, *pairs)
        dice.choice(
            (
                lambda write=write: client.execute_command(*write),
                lambda write=write: transaction(client, write, ("HINCRBY", KEY, "count", 1), write),
                lambda pairs=pairs: client.eval(SET_TWICE, 1, KEY, *pairs),
                lambda pairs=pairs: client.eval(SET_AND_REMOVE, 1, KEY, *pairs),
                lambda write=write: transaction(client, write, ("HDEL", KEY, "first"), ("PERSIST", KEY)),
            )
        )()
        assert changes(client)[-1].image == mapped(client), step


def test_a_command_that_failed_gives_nothing_to_the_next_one(client: redis.Redis) -> None:
    deploy(client)
    client.set(KEY, "no hash")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.hset(KEY, items=list(ADA))
    client.delete(KEY)
    client.eval("redis.call('hset', KEYS[1], 'first', 'Eve')", 1, KEY)
    assert changes(client)[-1].image == {"first": "Eve"}


def test_what_the_unit_deletes_is_deleted(client: redis.Redis) -> None:
    deploy(client)
    client.eval(SET_AND_DELETE, 1, KEY, *ADA)
    assert changes(client)[-1].op == "d"


def test_a_key_whose_time_is_over_is_another_one(client: redis.Redis) -> None:
    deploy(client)
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client.hset(KEY, "age", "1")
    client.pexpire(KEY, 25)
    while client.execute_command("EVAL", "return redis.call('pttl', KEYS[1])", 1, KEY) >= 0:
        pass
    client.hset(KEY, items=list(ADA))
    assert changes(client)[-1].image == mapped(client)
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_a_new_version_takes_its_own_fields(client: redis.Redis) -> None:
    deploy(client)
    client.hset(KEY, items=list(ADA))
    deploy(client, Function(fields=("age", "first")), version=2)
    client.hset(KEY, items=list(ADA))
    assert [each.image for each in changes(client)] == [
        mapped(client),
        mapped(client, fields=("age", "first")),
    ]


def test_entries_are_those_of_the_vectors(client: redis.Redis) -> None:
    deploy(client, Function(fields=("first", "age")))
    client.hset(KEY, items=["first", "Ada", "age", "36"])
    client.hset(KEY, items=["first", "a\x1fb", "age", ""])
    client.hdel(KEY, "age")
    client.delete(KEY)
    (lane,) = lanes(client)
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("XRANGE", lambda reply, **_: reply)
    found = [pairs for _, pairs in reader.execute_command("XRANGE", lane, "-", "+")]
    wanted = [each for each in VECTORS if each["id"].startswith("6-") and "comment" in each]
    for pairs, vector in zip(found, wanted):
        label, packed = (bytes.fromhex(each) for each in vector["pairs_hex"])
        assert pairs[0] == label
        parts, expected = (each.split(each[:1]) for each in (pairs[1], packed))
        # The epoch is this server's own.
        assert (parts[1][:1], parts[2:]) == (expected[1][:1], expected[2:])
        assert pairs[1][:1] == packed[:1]
    assert len(found) == len(wanted) == 4


def test_arguments_are_those_that_other_modules_have_made(tmp_path: Path) -> None:
    ours = build("rewriting.c", tmp_path)
    with RedisServer(*debug_options(), module=module_path(), module_arguments=("SUPERVISE", "no")) as server:
        with connect(server) as client:
            deploy(client)
            client.execute_command("MODULE", "LOAD", ours)
            client.hset(KEY, items=["first", "Ada", "last", "Byron", "age", "rewrite"])
            assert mapped(client)["age"] == "rewritten"
            assert changes(client) == [Change("u", changes(client)[0].epoch, KEY, mapped(client))]
