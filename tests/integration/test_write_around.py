"""Rows that somebody changes in SQL reach Redis, also after crashes, and without echo."""

from __future__ import annotations

from pathlib import Path

from connectors import connect
from connectors.triggers import triggers_of
from tests.integration.deploying import eventually, rows
from tests.integration.system import System
from tests.servers import run_sql

HEAD = """
from connectors import Target
from gears import WriteAround, WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
"""
INVALIDATE = HEAD + 'WriteAround(keys="person:{id}", table="persons", target=first, poll_ms=20)\n'
REFRESH = (
    HEAD
    + 'WriteAround(keys="person:{id}", table="persons", target=first, columns=["name", "age"], '
    + 'on_change="refresh", poll_ms=20)\n'
)
BEHIND = 'WriteBehind(keys="person:{id}", table="persons", columns=["name", "age"], target=first)\n'
PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20), age INTEGER)"


def prepare(url: str, *tables: str) -> None:
    """Make the triggers of tables."""
    connector = connect(url)
    triggers = triggers_of(connector)
    triggers.run(triggers.statements([connector.table(name) for name in tables or ("persons",)]))
    connector.close()


def following(tmp_path: Path, url: str, functions: str, **options: object) -> System:
    """Return a system on a database with the table and its triggers, not started."""
    run_sql(url, PERSONS)
    prepare(url)
    return System(tmp_path, functions, {"FIRST_DB_URL": url}, **options)  # type: ignore[arg-type]


def begun(system: System) -> bool:
    """Whether the follower follows."""
    return bool(system.target("first").get("around", {}).get("behind_s", 9) < 1)


def caught_up(system: System) -> bool:
    """Whether all that was committed is in Redis; the report is a second old at most."""
    around = system.target("first")["around"]
    return bool(around["waiting"] == 0 and around["behind_s"] == 0)


def test_changed_rows_are_invalidated(database_url: str, tmp_path: Path) -> None:
    system = following(tmp_path, database_url, INVALIDATE)
    with system as client:
        eventually(lambda: begun(system))
        for number in range(1, 7):
            client.hset(f"person:{number}", "name", "cached")
        client.hset("person:x", "name", "no row can have it")
        run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36), (2, 'Eve', 7), (3, 'Joe', 50)")
        eventually(lambda: client.exists("person:1", "person:2", "person:3") == 0)
        for number in range(1, 4):
            client.hset(f"person:{number}", "name", "cached")
        run_sql(database_url, "UPDATE persons SET age = 37 WHERE id = 1")
        run_sql(database_url, "UPDATE persons SET id = 5 WHERE id = 2")
        run_sql(database_url, "DELETE FROM persons WHERE id = 3")
        eventually(lambda: client.exists("person:1", "person:2", "person:3", "person:5") == 0)
        assert client.exists("person:4", "person:6", "person:x") == 3
        assert rows(database_url, "SELECT count(*) FROM persons") == [(2,)]


def test_changed_rows_are_refreshed(database_url: str, tmp_path: Path) -> None:
    system = following(tmp_path, database_url, REFRESH.replace('"refresh"', '"refresh", ttl=100'))
    with system as client:
        eventually(lambda: begun(system))
        client.hset("person:2", mapping={"name": "old", "left": "over"})
        run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36), (2, 'Eve', NULL)")
        eventually(lambda: client.hgetall("person:2") == {b"name": b"Eve"})
        assert client.hgetall("person:1") == {b"name": b"Ada", b"age": b"36"}
        assert 90 < client.ttl("person:1") <= 100
        run_sql(database_url, "UPDATE persons SET id = id + 10, age = 40")
        eventually(lambda: client.hgetall("person:12") == {b"name": b"Eve", b"age": b"40"})
        eventually(lambda: sorted(client.keys("person:*")) == [b"person:11", b"person:12"])
        run_sql(database_url, "DELETE FROM persons")
        eventually(lambda: client.keys("person:*") == [])
