"""Recipes that call rgsync with our connector, inside RedisGears 1.2."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy

from tests.integration.deploying import eventually
from tests.integration.redisgears.recipes import RECIPE, World, running, skip_without_rgsync
from tests.servers import run_sql

skip_without_rgsync()


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """RedisGears and a table persons."""
    with running(database_url, tmp_path) as made:
        yield made


def until(found: Callable[[], object]) -> None:
    eventually(lambda: bool(found()))


def test_write_behind_carries_upserts_and_deletes(world: World) -> None:
    world.register("RGWriteBehind", "person", onFailedRetryInterval=1)
    world.client.hset("person:1", mapping={"first_name": "Ada", "age": 36})
    world.client.hset("person:2", mapping={"first_name": "Älan", "age": 41})
    world.until_rows((1, "Ada", 36), (2, "Älan", 41))
    world.client.hset("person:1", "age", 37)
    world.client.delete("person:2")
    world.until_rows((1, "Ada", 37))
    assert world.errors() == []


def test_a_bad_row_is_a_dead_letter_and_the_others_arrive(world: World) -> None:
    world.register("RGWriteBehind", "person", onFailedRetryInterval=1, duration=200)
    with world.client.pipeline() as pipeline:
        pipeline.hset("person:1", mapping={"first_name": "Ada", "age": 36})
        pipeline.hset("person:2", mapping={"first_name": "Alan", "age": "unknown"})
        pipeline.hset("person:3", mapping={"first_name": b"\xff\xfe", "age": 1})
        pipeline.hset("person:4", mapping={"first_name": "Eve", "age": 13})
        pipeline.hset("person:5", mapping={"first_name": "Grace", "age": 85})
        pipeline.execute()
    world.until_rows((1, "Ada", 36), (5, "Grace", 85))
    letters = {json.loads(each["image"])["person_id"]: each for each in world.letters()}
    assert sorted(letters) == ["2", "3", "4"]
    assert (letters["2"]["column"], letters["3"]["column"]) == ("age", "first")
    assert letters["2"]["reason"] == "column age: the value is no whole number written in digits"
    assert "2 rows are refused, and stand in the stream gearsync:{" in world.server.log_text()
    world.client.hset("person:2", "age", 41)
    world.until_rows((1, "Ada", 36), (2, "Alan", 41), (5, "Grace", 85))


def test_a_crash_repeats_nothing_and_loses_nothing(world: World) -> None:
    world.register("RGWriteBehind", "person", onFailedRetryInterval=1, batch=10)
    count = 300
    with world.client.pipeline() as pipeline:
        for number in range(count):
            pipeline.hset(f"person:{number}", mapping={"first_name": "a", "age": 1})
        pipeline.execute()
    until(world.rows)
    world.server.kill9()
    before = len(world.rows())
    world.server.start()
    eventually(lambda: len(world.rows()) == count, 60)
    [(applied,)] = run_sql(world.url, "SELECT applied FROM gearsync_checkpoint")
    assert (before < count, applied) == (True, count)


def test_a_registration_with_an_acknowledgment(world: World) -> None:
    world.register("RGWriteBehind", "person", onFailedRetryInterval=1)
    world.client.hset("person:1", mapping={"first_name": "Ada", "age": 36, "#": "=7f3a"})
    assert world.acknowledgment("person:1", "7f3a") == {"status": "done"}
    assert world.rows() == [(1, "Ada", 36)]
    assert world.client.hgetall("person:1") == {"first_name": "Ada", "age": "36"}


def test_write_through_is_in_sql_when_the_client_is_answered(world: World) -> None:
    world.register("RGWriteThrough", "__")
    world.client.hset("__{person:1}", mapping={"first_name": "Ada", "age": 36, "#": "=7f3a"})
    assert world.rows() == [(1, "Ada", 36)]
    assert world.client.hgetall("person:1") == {"first_name": "Ada", "age": "36"}
    assert world.acknowledgment("person:1", "7f3a") == {"status": "done"}
    world.client.hset("__{person:1}", "#", "~")
    assert (world.rows(), world.client.exists("person:1")) == ([], 0)


@pytest.mark.parametrize("age", ["unknown", "13"])
def test_write_through_says_why_a_row_was_refused(world: World, age: str) -> None:
    world.register("RGWriteThrough", "__")
    world.client.hset("__{person:1}", mapping={"first_name": "Ada", "age": age, "#": "=7f3a"})
    said = world.acknowledgment("person:1", "7f3a")
    assert said["status"] == "failed"
    assert said["error"].startswith("one row is refused, so nothing is written: ")
    assert (world.rows(), world.client.exists("person:1"), world.letters()) == ([], 0, [])


def test_a_variable_that_is_not_set_is_told(world: World) -> None:
    world.server.run(
        RECIPE.replace("RGSYNC_TEST_URL", "NOT_SET_URL").format(
            kind="RGWriteBehind", prefix="person", options={"onFailedRetryInterval": 1}
        )
    )
    world.client.hset("person:1", mapping={"first_name": "Ada", "age": 36})
    until(world.errors)
    assert "NOT_SET_URL" in world.errors()[0]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_the_server_answers_while_the_database_is_locked(world: World) -> None:
    """Write-behind waits for the database in a thread of its own."""
    world.register("RGWriteBehind", "person", onFailedRetryInterval=1)
    engine = sqlalchemy.create_engine(world.url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE persons")
        world.client.hset("person:1", mapping={"first_name": "Ada", "age": 36})
        quick = redis.Redis(port=world.server.port, socket_timeout=0.5)
        assert quick.ping()
        quick.close()
    world.until_rows((1, "Ada", 36))
