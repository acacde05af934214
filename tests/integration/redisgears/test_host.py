"""What is RedisGears' own: promotions, flushes, targets that go, deployments that share prefixes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from gears.declaring import config
from tests import hosts
from tests.integration.deploying import eventually, gearsync, rows, write
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")
first = Target("env:FIRST_DB_URL", name="first")
second = Target("env:SECOND_DB_URL", name="second")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=first)
"""
SECOND = 'WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=second, name="copy")\n'
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(40))"


@pytest.fixture
def database(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("FIRST_DB_URL", sqlite_url)
    monkeypatch.setenv("SECOND_DB_URL", f"sqlite:///{tmp_path / 'away' / 'second.db'}")
    return sqlite_url


@pytest.fixture
def server(database: str) -> Iterator[RedisGears]:
    with RedisGears("--appendonly", "yes") as running:
        yield running


def deploy(server: RedisGears, folder: Path, functions: str, *options: str, code: int = 0) -> str:
    done = gearsync("deploy", write(folder, functions), "--redis", server.url, *options)
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def names(url: str) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in rows(url, "SELECT id, name FROM persons ORDER BY id")]


def test_a_replica_that_is_promoted_goes_on_where_sql_is(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    with RedisGears() as replica, replica.client() as other:
        other.replicaof("127.0.0.1", str(server.port))
        eventually(lambda: other.info("replication")["master_link_status"] == "up")
        deploy(server, tmp_path, FUNCTIONS)
        with server.client() as client:
            client.hset("person:1", "name", "Ada")
            assert hosts.wait(server, 30)
            assert client.execute_command("WAIT", 1, 5000) == 1
        before = hosts.status(server)
        assert len(replica.registrations()) == len(server.registrations()) == 3
        server.kill9()
        other.replicaof("NO", "ONE")
        other.hset("person:2", "name", "Eve")
        other.hset("person:1", "name", "Ada Lovelace")
        assert hosts.wait(replica, 30)
        assert names(database) == [(1, "Ada Lovelace"), (2, "Eve")]
        after = hosts.status(replica)
        assert after["source"] == before["source"]
        assert after["epoch"] >= before["epoch"] + (1 << 20) - 1


def test_what_was_undeployed_and_deployed_again_is_known_after_a_restart(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    """The AOF has both, and RedisGears lets go of the first when it has loaded the second."""
    host = hosts.asked(server)
    deployment = config.load(write(tmp_path, FUNCTIONS))
    host.deploy(deployment)
    host.undeploy("people", discard=True)
    host.deploy(deployment)
    server.restart()
    host.client.hset("person:1", "name", "Ada")
    assert host.wait(30_000, None, None)
    assert names(database) == [(1, "Ada")]
    host.deploy(dataclasses.replace(deployment, version=2))
    assert host.deployments()["people"].version == 2
    host.client.close()


def test_after_a_flush_writes_of_database_0_are_captured_and_rows_stay(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    deploy(server, tmp_path, FUNCTIONS)
    with server.client() as client:
        client.hset("person:1", "name", "Ada")
        assert hosts.wait(server, 30)
        client.flushall()
        client.hset("person:2", "name", "Eve")
        with server.client(db=1) as other:
            other.hset("person:1", "name", "Joe")
            other.set("person:1", "no hash")
            other.restore("person:1", 0, other.dump("person:1") or b"", replace=True)
        assert hosts.wait(server, 30)
        assert names(database) == [(1, "Ada"), (2, "Eve")]
        client.set("person:2", "no hash")
        assert hosts.wait(server, 30)
        assert names(database) == [(1, "Ada")]


def test_an_operation_of_one_deployment_takes_the_key_for_all(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    """Also for one that RedisGears tells of the write before the one with operations."""
    run_sql(database, PERSONS.replace("persons", "others"))
    deploy(server, tmp_path, FUNCTIONS)
    more = FUNCTIONS.replace('"people"', '"others"').replace('"persons"', '"others"')
    deploy(server, tmp_path, more.replace("target=first)", "target=first, operations=True)"))
    with server.client() as client:
        client.hset("person:1", "name", "Ada")
        client.hset("person:2", "name", "Eve")
        assert hosts.wait(server, 30)
        client.hset("person:1", mapping={"#": "-", "name": "Joe"})
        with client.pipeline(transaction=True) as pipe:
            pipe.hset("person:2", "#", "~")
            pipe.hset("person:2", "name", "Eve again")
            pipe.execute()
    eventually(lambda: names(database) == [(2, "Eve again")])
    assert hosts.wait(server, 30)
    assert rows(database, "SELECT id, name FROM others ORDER BY id") == [(1, "Ada"), (2, "Eve again")]
    assert names(database) == [(2, "Eve again")]


def test_a_version_without_a_target_that_has_changes_is_refused(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    deploy(server, tmp_path, FUNCTIONS + SECOND, "--offline", "--timeout", "1", code=1)
    with server.client() as client:
        client.hset("person:1", "name", "Ada")
    said = deploy(server, tmp_path, FUNCTIONS, code=1)
    assert "1 changes still wait for the target second" in said
    (tmp_path / "away").mkdir()
    run_sql(f"sqlite:///{tmp_path / 'away' / 'second.db'}", PERSONS)
    assert hosts.wait(server, 30)
    deploy(server, tmp_path, FUNCTIONS, "--yes")
    with server.client() as client:
        client.hset("person:1", "name", "Eve")
    assert hosts.wait(server, 30)
    assert names(database) == [(1, "Eve")]


def test_what_waits_can_be_discarded(server: RedisGears, tmp_path: Path) -> None:
    deploy(server, tmp_path, FUNCTIONS + SECOND, "--offline", "--timeout", "1", code=1)
    with server.client() as client:
        for number in range(20):
            client.hset(f"person:{number}", "name", "x")
        late = gearsync("undeploy", "people", "--redis", server.url, "--timeout", "1")
        assert late.returncode == 1
        assert "20 changes to apply" in late.stderr
        client.hset("person:100", "name", "after the capture's end")
        done = gearsync("undeploy", "people", "--redis", server.url, "--discard")
        assert done.returncode == 0, done.stderr
        assert "20 waiting changes dropped" in done.stdout
        assert [key for key in client.keys("gearsync:*") if not key.endswith(b":registry")] == []
    assert server.registrations() == []


def test_prefixes_that_begin_alike_capture_each_key_once(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    run_sql(database, "CREATE TABLE admins (id INTEGER PRIMARY KEY, name VARCHAR(40))")
    more = 'WriteBehind(keys="person:admin:{id}", table="admins", columns=["name"], target=first)\n'
    deploy(server, tmp_path, FUNCTIONS + more)
    run_sql(database, PERSONS.replace("persons", "others"))
    other = FUNCTIONS.replace('name="people"', 'name="others"').replace('"person:{id}"', '"per:{id}"')
    other = other.replace('"persons"', '"others"')
    deploy(server, tmp_path, other)
    with server.client() as client:
        client.hset("person:1", "name", "Ada")
        client.hset("person:admin:1", "name", "root")
        client.hset("per:2", "name", "Eve")
        client.hset(b"person:3\xff", "name", "no number")
    assert hosts.wait(server, 30)
    assert names(database) == [(1, "Ada")]
    assert rows(database, "SELECT id, name FROM admins") == [(1, "root")]
    assert rows(database, "SELECT id, name FROM others") == [(2, "Eve")]
    captured = {each["name"]: each["captured"] for each in hosts.status(server)["deployments"]}
    assert captured == {"people": 3, "others": 1}


def test_values_that_are_not_plain_arrive_as_they_are(
    server: RedisGears, database: str, tmp_path: Path
) -> None:
    run_sql(
        database, "CREATE TABLE files (id INTEGER PRIMARY KEY, name VARCHAR(40) DEFAULT 'none', data BLOB)"
    )
    wide = FUNCTIONS + (
        'WriteBehind(keys="file:{id}", table="files", columns=["name", "data"], target=first)\n'
    )
    deploy(server, tmp_path, wide)
    with server.client() as client:
        client.hset("file:1", mapping={"name": "plain", "data": "x"})
        client.hset("file:2", mapping={"name": "a\x1fb", "data": "c"})
        client.hset("file:3", mapping={"name": "a", "data": b"\xff\x1f\xfe"})
        client.hset("file:4", "data", "only")
        client.hset("file:5", mapping={"name": "", "data": ""})
        client.hset("file:6", "other", "x")
    assert hosts.wait(server, 30)
    assert rows(database, "SELECT id, name, CAST(data AS BLOB) FROM files ORDER BY id") == [
        (1, "plain", b"x"),
        (2, "a\x1fb", b"c"),
        (3, "a", b"\xff\x1f\xfe"),
        (4, "none", b"only"),
        (5, "", b""),
        (6, "none", None),
    ]
