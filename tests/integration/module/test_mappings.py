"""Which keys a deployment covers, what of them it captures, and in which lane a change waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Function,
    changes,
    decode,
    deploy,
    deploy_arguments,
    deployment_status,
    entries,
    lanes,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
TEMPLATES = sorted({each["template"] for each in VECTORS["templates"]})


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_cover_the_keys_of_the_vectors(client: redis.Redis, template: str) -> None:
    deploy(client, Function(template, ["f"]))
    cases = [each for each in VECTORS["templates"] if each["template"] == template]
    expected = []
    for each in cases:
        key = bytes.fromhex(each["key_hex"])
        client.hset(key, "f", "v")
        if each["match_hex"] is not None:
            expected.append(key.decode("latin-1"))
    assert [each.key for each in changes(client)] == expected


@pytest.mark.parametrize("template", VECTORS["bad_templates"])
def test_bad_templates_are_refused(client: redis.Redis, template: str) -> None:
    with pytest.raises(redis.ResponseError, match="the key template"):
        deploy(client, Function(template))
    assert client.execute_command("GEARSYNC.DEPLOYMENTS") == []


@pytest.mark.parametrize("count", sorted({each["lanes"] for each in VECTORS["lanes"]}))
def test_a_key_waits_in_the_lane_of_its_hash(client: redis.Redis, count: int) -> None:
    cases = [each for each in VECTORS["lanes"] if each["lanes"] == count]
    deploy(client, Function("{any*}", ["f"]), lanes=count)
    expected: dict[int, set[str]] = {}
    for each in cases:
        key = bytes.fromhex(each["key_hex"])
        client.hset(key, "f", "v")
        if key:
            expected.setdefault(each["lane"], set()).add(key.decode("latin-1"))
    found = [{decode(pairs).key for _, pairs in entries(client, stream)} for stream in lanes(client)]
    assert {index: keys for index, keys in enumerate(found) if keys} == expected
    assert [stream.rsplit(":", 1)[1] for stream in lanes(client)] == [f"{i}.{count}" for i in range(count)]


def test_several_mappings_of_a_target_make_one_change_with_the_union(client: redis.Redis) -> None:
    deploy(
        client,
        Function("person:{id}", ["first", "age"]),
        Function("person:{id}", ["age", "last"]),
        Function("{kind}:{id}", ["city", "last"]),
        Function("pet:{id}", ["name"]),
    )
    whole = {"first": "A", "last": "B", "age": "3", "city": "C", "name": "N"}
    client.hset("person:1", items=[part for pair in whole.items() for part in pair])
    client.hset("pet:1", items=[part for pair in whole.items() for part in pair])
    person, pet = changes(client)
    assert person.image == {key: whole[key] for key in ("first", "last", "age", "city")}
    assert pet.image == {key: whole[key] for key in ("city", "last", "name")}


def test_several_targets_have_one_change_each(client: redis.Redis) -> None:
    # Out of order, so that rules of one target stand apart.
    functions = [
        Function(fields=["first"], target="t2"),
        Function(fields=["last"]),
        Function(fields=["age"], target="t2"),
        Function("pet:{id}", ["name"], target="t3"),
    ]
    deploy(client, *functions, targets=["t1", "t2", "t3"])
    client.hset("person:1", items=["first", "A", "last", "B", "age", "3"])
    assert [each.image for each in changes(client, target="t1")] == [{"last": "B"}]
    assert [each.image for each in changes(client, target="t2")] == [{"first": "A", "age": "3"}]
    assert changes(client, target="t3") == []


def test_several_deployments_have_one_change_each(client: redis.Redis) -> None:
    deploy(client, Function(fields=["first"]))
    deploy(client, Function(fields=["last"]), name="others")
    client.hset("person:1", items=["first", "A", "last", "B"])
    assert [each.image for each in changes(client)] == [{"first": "A"}]
    assert [each.image for each in changes(client, "others")] == [{"last": "B"}]


def test_the_whole_hash(client: redis.Redis) -> None:
    deploy(client, Function(fields=None), Function("person:{id}", ["first"]))
    small = {"k": "1", "m": "2", "first": "A", "": "empty"}
    client.hset("person:1", items=[part for pair in small.items() for part in pair])
    assert [each.image for each in changes(client)] == [small]
    # Beyond what a listpack takes, so a real hash table with a scan of many steps.
    large = {f"field {number}": "x" * 100 for number in range(3000)}
    client.hset("person:2", items=[part for pair in large.items() for part in pair])
    assert changes(client)[-1].image == large


def test_partial_hashes(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", items=["nickname", "x"])
    client.hset("person:1", items=["last", "B"])
    client.hset("person:1", items=["first", ""])
    assert [each.image for each in changes(client)] == [{}, {"last": "B"}, {"first": "", "last": "B"}]


def test_missed_keys_are_counted(client: redis.Redis) -> None:
    deploy(client)
    for key in ("person:1:home", "person:", "personal:1", "other:1", "person:2"):
        client.hset(key, "first", "A")
    # No hash: nobody would have expected a row.
    client.set("person:a:b", "v")
    client.delete("person:a:b")
    found = deployment_status(client)
    assert (found["captured"], found["missed"], found["missed_key"]) == (1, 2, "person:")


def test_databases_are_apart(client: redis.Redis) -> None:
    deploy(client, Function(db=0, fields=["first"]), Function(db=2, fields=["last"]))
    for db in (0, 1, 2):
        client.execute_command("SELECT", db)
        client.hset("person:1", items=["first", str(db), "last", str(db)])
    client.execute_command("SELECT", 0)
    assert [each.image for each in changes(client)] == [{"first": "0"}, {"last": "2"}]


def test_check_deploys_nothing(client: redis.Redis) -> None:
    assert client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(check=True)) == b"OK"
    assert client.execute_command("GEARSYNC.DEPLOYMENTS") == []
    client.hset("person:1", "first", "A")
    assert client.keys("gearsync*") == []


def test_a_hundred_functions_over_one_key_capture_all_their_fields(client: redis.Redis) -> None:
    deploy(client, *(Function(fields=[f"f{number}"]) for number in range(100)))
    image: dict[Any, Any] = {f"f{number}": str(number) for number in range(100)}
    client.hset("person:1", mapping=image)
    assert [each.image for each in changes(client)] == [image]
