"""Write-through: what SQL commits is in Redis, and nothing else, and the client knows."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy

from tests.integration.deploying import eventually, gearsync, rows, write
from tests.integration.module.driving import lanes
from tests.integration.system import System
from tests.servers import PostgresServer, run_sql

PERSONS = (
    "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20) DEFAULT 'nobody', age INTEGER, "
    "email VARCHAR(40) UNIQUE)"
)
FUNCTIONS = """
from __future__ import annotations

from connectors import Target
from gears import WriteThrough

first = Target("env:FIRST_DB_URL", name="first")
WriteThrough(keys="person:{id}", table="persons", columns=["name", "age", "email"], target=first)
"""


def persons(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT id, name, age, email FROM persons ORDER BY id")


def test_the_row_is_there_before_the_reply(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:
        assert client.hset("person:1", mapping={"name": "Ada", "age": 36, "other": "x"}) == 3
        assert persons(database_url) == [(1, "Ada", 36, None)]
        assert client.hgetall("person:1") == {b"name": b"Ada", b"age": b"36", b"other": b"x"}
        assert client.hset("person:1", "age", 37) == 0
        assert client.execute_command("HMSET", "person:2", "name", "Joe") is True
        assert client.hsetnx("person:2", "age", 7) == 1
        assert client.hsetnx("person:2", "age", 8) == 0
        assert client.hincrby("person:2", "age", 3) == 10
        assert client.hincrbyfloat("person:3", "age", 4.0) == 4.0
        assert persons(database_url) == [(1, "Ada", 37, None), (2, "Joe", 10, None), (3, "nobody", 4, None)]
        assert client.hdel("person:2", "name", "none") == 1
        assert client.hdel("person:3", "age") == 1
        assert not client.exists("person:3")
        assert persons(database_url) == [(1, "Ada", 37, None), (2, None, 10, None)]
        assert client.delete("person:2", "person:9", "elsewhere") == 1
        assert persons(database_url) == [(1, "Ada", 37, None)]
        assert client.expire("person:1", 100) == 1
        assert client.expire("person:1", -1) == 1
        assert persons(database_url) == []


def test_a_refusal_is_the_client_s_error(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:
        client.hset("person:1", mapping={"name": "Ada", "email": "ada@x"})
        with pytest.raises(redis.ResponseError, match=r"THROUGH person:2 is not written: .*email"):
            client.hset("person:2", mapping={"name": "Eve", "email": "ada@x"})
        with pytest.raises(redis.ResponseError, match="column age"):
            client.hset("person:1", "age", "old")
        with pytest.raises(redis.ResponseError, match="column id"):
            client.hset("person:x", "age", "1")
        assert client.hgetall("person:1") == {b"name": b"Ada", b"email": b"ada@x"}
        assert client.keys("person:*") == [b"person:1"]
        assert persons(database_url) == [(1, "Ada", None, "ada@x")]


def test_one_refused_row_fails_its_own_client_alone(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:

        def write(number: int) -> bool:
            try:
                client.hset(f"person:{number}", mapping={"name": "Ada", "email": f"{number % 50}@x"})
            except redis.ResponseError as error:
                assert "person:" in str(error)
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(25) as pool:
            done = list(pool.map(write, range(100)))
        table = {row[0] for row in persons(database_url)}
        assert table == {number for number in range(100) if done[number]}
        assert len(table) == 50
        assert {int(key[len("person:") :]) for key in client.keys("person:*")} == table


def test_many_clients_share_a_transaction(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            list(pool.map(lambda number: client.hincrby(f"person:{number % 100}", "age", 1), range(400)))
        assert [row[2] for row in persons(database_url)] == [4] * 100
        assert run_sql(database_url, "SELECT count(*) FROM gearsync_intent")[0][0] < 300


def test_keys_are_deleted_together_or_not_at_all(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    pets = "CREATE TABLE pets (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL REFERENCES persons (id))"
    run_sql(database_url, pets)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:
        for number in (1, 2, 3):
            client.hset(f"person:{number}", "name", "Ada")
        run_sql(database_url, "INSERT INTO pets VALUES (1, 2)")
        with pytest.raises(redis.ResponseError, match="is not written"):
            client.delete("person:1", "person:2", "person:3")
        assert client.exists("person:1", "person:2", "person:3") == 3
        assert len(persons(database_url)) == 3
        assert client.delete("person:1", "person:3") == 2
        assert [row[0] for row in persons(database_url)] == [2]
        # More entries of the lane than the worker reads at once: the write must not be parted there.
        client.hset("person:4", "name", "Ada")
        client.hset("person:1500", "name", "Ada")
        assert client.delete(*(f"person:{number}" for number in range(3, 2600))) == 2
        assert [row[0] for row in persons(database_url)] == [2]


def test_two_tables_of_one_key(host: str, database_url: str, tmp_path: Path) -> None:
    """Both rows, or none."""
    run_sql(database_url, PERSONS)
    run_sql(
        database_url, "CREATE TABLE ages (id INTEGER PRIMARY KEY, age INTEGER NOT NULL CHECK (age < 100))"
    )
    second = 'WriteThrough(keys="person:{id}", table="ages", columns=["age"], target=first)\n'
    with System(tmp_path, FUNCTIONS + second, {"FIRST_DB_URL": database_url}, host=host) as client:
        client.hset("person:1", mapping={"name": "Ada", "age": 36})
        assert rows(database_url, "SELECT id, age FROM ages") == [(1, 36)]
        with pytest.raises(redis.ResponseError, match="is not written"):
            client.hset("person:1", mapping={"name": "Eve", "age": 136})
        assert persons(database_url) == [(1, "Ada", 36, None)]
        assert client.hget("person:1", "name") == b"Ada"


def test_while_the_database_is_away(host: str, postgres: PostgresServer, tmp_path: Path) -> None:
    if not hasattr(postgres, "restart"):
        pytest.skip("PostgreSQL was given by a URL or runs in a container; it is not ours to stop")
    url = postgres.create_database()
    run_sql(url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": url}, host=host) as client:
        client.hset("person:1", "name", "Ada")
        postgres.kill9()
        try:
            for _ in range(3):
                with pytest.raises(redis.ResponseError, match="THROUGH "):
                    client.hset("person:1", "name", "Eve")
            assert client.hget("person:1", "name") == b"Ada"
            assert client.hset("elsewhere", "a", "b") == 1
        finally:
            postgres.start()
        eventually(lambda: _tries(client, "person:1", "Joe"))
        assert persons(url) == [(1, "Joe", None, None)]


def test_a_write_of_which_sql_keeps_no_record_fails_alone(mariadb_url: str, tmp_path: Path) -> None:
    """What restores Redis after a crash goes to SQL whole, also of fields without a column."""
    run_sql(mariadb_url, PERSONS)
    [(usual,)] = run_sql(mariadb_url, "SELECT @@max_allowed_packet")
    run_sql(mariadb_url, "SET GLOBAL max_allowed_packet = 1048576")
    try:
        with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": mariadb_url}) as client:

            def write(number: int) -> int | str:
                photo = os.urandom(100_000 if number else 1_200_000)
                try:
                    return client.hset(f"person:{number}", mapping={"age": number, "photo": photo})
                except redis.ResponseError as error:
                    return str(error)

            with concurrent.futures.ThreadPoolExecutor(20) as pool:
                [refused, *done] = pool.map(write, range(20))
            assert "person:0 is not written: the record of it" in str(refused)
            assert done == [2] * 19
            assert [row[2] for row in persons(mariadb_url)] == [*range(1, 20)]
    finally:
        run_sql(mariadb_url, f"SET GLOBAL max_allowed_packet = {usual}")


def _tries(client: redis.Redis, key: str, name: str) -> bool:
    try:
        client.hset(key, "name", name)
    except redis.ResponseError:
        return False
    return True


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_lock_in_sql_is_an_error_in_time(
    host: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The database gives up before the client does, so that it is sure that nothing was written."""
    url = request.getfixturevalue(f"{kind}_url")
    run_sql(url, PERSONS)
    functions = FUNCTIONS.replace("target=first)", "target=first, timeout_ms=4000)")
    engine = sqlalchemy.create_engine(url)
    with System(tmp_path, functions, {"FIRST_DB_URL": url}, host=host) as client:
        client.hset("person:1", "name", "Ada")
        with engine.connect() as other:
            other.execute(sqlalchemy.text("UPDATE persons SET age = 1 WHERE id = 1"))
            with pytest.raises(redis.ResponseError, match="nothing was written"):
                client.hset("person:1", "name", "Eve")
            assert client.hget("person:1", "name") == b"Ada"
            other.rollback()
        eventually(lambda: _tries(client, "person:1", "Joe"))
        assert persons(url) == [(1, "Joe", None, None)]
        assert client.hget("person:1", "name") == b"Joe"
    engine.dispose()


def test_a_table_that_is_missing_is_an_error(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host) as client:
        client.hset("person:1", "name", "Ada")
        run_sql(database_url, "ALTER TABLE persons RENAME TO gone")
        with pytest.raises(redis.ResponseError, match="persons"):
            client.hset("person:1", "name", "Eve")
        run_sql(database_url, "ALTER TABLE gone RENAME TO persons")
        eventually(lambda: _tries(client, "person:1", "Joe"))
        assert [row[1] for row in persons(database_url)] == ["Joe"]


def test_expiry_reaches_sql_in_order(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        for _ in range(20):
            client.hset("person:1", mapping={"name": "Ada", "age": 1})
            client.pexpire("person:1", 5)
            eventually(lambda: not client.exists("person:1"))
            client.hset("person:1", "age", 2)
            system.wait()
            assert persons(database_url) == [(1, "nobody", 2, None)]
            client.delete("person:1")


def test_an_upgrade_under_load(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        end = threading.Event()
        counts = [0, 0, 0, 0]

        def write(number: int) -> None:
            while not end.is_set():
                counts[number] = client.hincrby(f"person:{number}", "age", 1)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            running = [pool.submit(write, number) for number in range(4)]
            eventually(lambda: min(counts) > 5)
            with system.environment():
                system.deploy()
            reached = min(counts)
            eventually(lambda: min(counts) > reached + 5)
            end.set()
            for each in running:
                each.result()
        assert [row[2] for row in persons(database_url)] == counts
        assert [int(client.hget(f"person:{number}", "age") or 0) for number in range(4)] == counts


@pytest.mark.one_database
def test_a_lane_of_before_is_done_with_once_it_is_empty(database_url: str, tmp_path: Path) -> None:
    """As a shard of a cluster has one after its slot has gone: the module drops it, nothing waits for it."""
    run_sql(database_url, PERSONS)
    run_sql(database_url, "INSERT INTO persons (id, age) VALUES (9, 1)")
    with System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url}) as client:
        client.hset("person:1", "age", 1)
        before = lanes(client, "functions", "first")[0].replace(":0.1", ":0.2")
        client.xadd("other", {"k": "person:9", "m": "d1"})
        client.restore(before, 0, client.dump("other") or b"")
        eventually(lambda: not client.exists(before) and len(persons(database_url)) == 1)
        assert client.hincrby("person:1", "age", 1) == 2
    assert persons(database_url) == [(1, "nobody", 2, None)]


def test_two_deployments_of_the_same_keys_are_refused(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    run_sql(database_url, "CREATE TABLE ages (id INTEGER PRIMARY KEY, age INTEGER)")
    system = System(tmp_path, FUNCTIONS, {"FIRST_DB_URL": database_url})
    with system as client:
        other = FUNCTIONS.replace(
            'table="persons", columns=["name", "age", "email"]', 'table="ages", columns=["age"]'
        )
        path = write(tmp_path, other, "others.py")
        with system.environment():
            done = gearsync("deploy", path, "--redis", system.server.url)
        assert done.returncode == 1
        assert "declare both in one file" in " ".join((done.stdout + done.stderr).split())
        assert client.hset("person:1", "age", 1) == 1


def test_a_change_without_a_client_takes_as_long_as_it_takes(postgres_url: str, tmp_path: Path) -> None:
    """The database gives up what a client waits for; an expiry that it gave up would be tried for ever."""
    run_sql(postgres_url, PERSONS)
    run_sql(
        postgres_url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.5); RETURN OLD; END $$",
    )
    run_sql(postgres_url, "CREATE TRIGGER slow BEFORE DELETE ON persons FOR EACH ROW EXECUTE FUNCTION slow()")
    functions = FUNCTIONS.replace("target=first)", "target=first, timeout_ms=500)")
    with System(tmp_path, functions, {"FIRST_DB_URL": postgres_url}) as client:
        client.hset("person:1", "name", "Ada")
        client.pexpire("person:1", 10)
        eventually(lambda: persons(postgres_url) == [])
        with pytest.raises(redis.ResponseError, match="THROUGH"):
            client.hset("person:2", "name", "Joe")
            client.delete("person:2")
        assert [row[:2] for row in persons(postgres_url)] == [(2, "Joe")]
