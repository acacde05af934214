"""Rows that somebody changes in SQL reach Redis, also after crashes, and without echo."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors import connect
from connectors.triggers import triggers_of
from tests.integration.deploying import eventually, gearsync, rows
from tests.integration.module.reading import hash_of
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


def test_own_writes_make_no_echo(database_url: str, tmp_path: Path) -> None:
    """With an echo, the follower would delete what a client has just written."""
    system = following(tmp_path, database_url, INVALIDATE + BEHIND)
    with system as client:
        eventually(lambda: begun(system))
        for number in range(200):
            client.hset(f"person:{number}", mapping={"name": f"n{number}", "age": number})
        client.delete("person:0")
        client.hset("person:1", "age", "no number")
        system.wait()
        assert rows(database_url, "SELECT count(*) FROM persons") == [(199,)]
        assert rows(database_url, "SELECT count(*) FROM gearsync_outbox") == [(0,)]
        run_sql(database_url, "UPDATE persons SET age = 1 WHERE id = 7")
        eventually(lambda: client.exists("person:7") == 0)
        assert client.exists(*(f"person:{number}" for number in range(1, 200))) == 198


def test_a_kill_between_redis_and_the_position_repeats(database_url: str, tmp_path: Path) -> None:
    system = following(tmp_path, database_url, REFRESH)
    marker = tmp_path / "reached"
    failpoint = {"GEARSYNC_FAILPOINT": "around-before-position", "GEARSYNC_FAILPOINT_ONCE": str(marker)}
    system.variables.update(failpoint)
    with system as client:
        run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
        eventually(marker.exists)
        run_sql(database_url, "INSERT INTO persons VALUES (2, 'Eve', 7)")
        eventually(lambda: client.exists("person:1", "person:2") == 2)
        run_sql(database_url, "DELETE FROM persons WHERE id = 1")
        eventually(lambda: client.exists("person:1") == 0)


def test_what_is_written_while_a_row_is_locked_agrees_at_the_end(database_url: str, tmp_path: Path) -> None:
    """Somebody holds the row, a client writes the hash; then both commit, one behind the other."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    system = following(tmp_path, database_url, REFRESH + BEHIND)
    with system as client:
        eventually(lambda: begun(system))
        run_sql(database_url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
        eventually(lambda: client.exists("person:1") == 1)
        engine = sa.create_engine(database_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE persons SET name = 'sql', age = 99 WHERE id = 1")
            client.delete("person:1")
            client.hset("person:1", "name", "redis")
            client.hset("person:2", "name", "other")
        system.wait()
        # The client's delete and write are one new row, whose age has its default; the outbox comes after.
        expected = rows(database_url, "SELECT name, age FROM persons WHERE id = 1")[0]
        image = {b"name": expected[0].encode()}
        if expected[1] is not None:
            image[b"age"] = str(expected[1]).encode()
        eventually(lambda: client.hgetall("person:1") == image)
        assert expected[0] == "redis"


def test_a_database_that_restarts(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for kind in ("postgres", "mariadb"):
        server = request.getfixturevalue(kind)
        if not hasattr(server, "restart"):
            pytest.skip("a server that is given can't be restarted")
        url = server.create_database()
        folder = tmp_path / kind
        folder.mkdir()
        system = following(folder, url, REFRESH)
        with system as client:
            eventually(lambda: begun(system))  # noqa: B023
            run_sql(url, "INSERT INTO persons VALUES (1, 'Ada', 36)")
            eventually(lambda: client.exists("person:1") == 1)
            server.restart()
            run_sql(url, "INSERT INTO persons VALUES (2, 'Eve', 7)")
            run_sql(url, "DELETE FROM persons WHERE id = 1")
            eventually(lambda: client.keys("person:*") == [b"person:2"])
            run_sql(url, "INSERT INTO persons VALUES (3, 'Joe', 50)")
            eventually(lambda: client.exists("person:3") == 1)
        server.drop_database(url)


def test_hostile_keys(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE things (region VARCHAR(20), label VARCHAR(60), total INTEGER, "
        "PRIMARY KEY (label, region))",
    )
    prepare(database_url, "things")
    functions = HEAD + (
        'WriteAround(keys="thing:{region}:{label*}", table="things", target=first, columns=["total"], '
        'on_change="refresh", poll_ms=20)\n'
    )
    labels = ["a:b", "%s %(x)s", "'\"`\\", "{}*?[x]", "ünï \N{GRINNING FACE}", "\n\t", "person", ", -- ;"]
    system = System(tmp_path, functions, {"FIRST_DB_URL": database_url})
    with system as client:
        eventually(lambda: begun(system))
        engine = sa.create_engine(database_url, poolclass=sa.NullPool)
        table = sa.table("things", *map(sa.column, ("region", "label", "total")))
        with engine.begin() as connection:
            for number, label in enumerate(labels):
                connection.execute(sa.insert(table).values(region="e{u", label=label, total=number))
            # No hash can have the key of this one.
            connection.execute(sa.insert(table).values(region="e:u", label="x", total=0))
        keys = {f"thing:e{{u:{label}".encode() for label in labels}
        eventually(lambda: set(client.keys("thing:*")) == keys)
        assert client.hgetall("thing:e{u:%s %(x)s") == {b"total": b"1"}
        with engine.begin() as connection:
            connection.execute(sa.delete(table))
        eventually(lambda: client.keys("thing:*") == [])


def test_an_undeployed_follower_leaves_the_outbox(database_url: str, tmp_path: Path) -> None:
    system = following(tmp_path, database_url, INVALIDATE + BEHIND.replace("person:", "other:"))
    with system as client:
        eventually(lambda: begun(system))
        assert rows(database_url, "SELECT count(*) FROM gearsync_follower") == [(1,)]
        assert len(client.keys("gearsync:*:followed:*")) == 1
        done = gearsync("undeploy", "functions", "--redis", system.server.url)
        assert done.returncode == 0, done.stderr
        # The key goes after the row: a follower that dies in between finds where it was.
        eventually(lambda: client.keys("gearsync:*:followed:*") == [])
        assert rows(database_url, "SELECT count(*) FROM gearsync_follower") == [(0,)]


@pytest.mark.one_database
def test_a_new_version_goes_on_where_the_old_one_was(database_url: str, tmp_path: Path) -> None:
    system = following(tmp_path, database_url, INVALIDATE)
    with system as client:
        eventually(lambda: begun(system))
        client.hset("person:1", "name", "stays")
        for version in range(3):
            Path(system.functions).write_text(INVALIDATE.replace("poll_ms=20", f"poll_ms={30 + version}"))
            client.hset("person:2", "name", "cached")
            run_sql(database_url, f"INSERT INTO persons VALUES ({100 + version}, 'x', 1)")
            run_sql(database_url, "DELETE FROM persons WHERE id = 2")
            run_sql(database_url, "INSERT INTO persons VALUES (2, 'x', 1)")
            with system.environment():
                system.deploy()
            eventually(lambda: client.exists("person:2") == 0)
        assert client.exists("person:1") == 1
        assert rows(database_url, "SELECT count(*) FROM gearsync_follower") == [(1,)]


@pytest.mark.one_database
def test_what_is_read_through_is_never_older_than_what_was_followed(
    database_url: str, tmp_path: Path
) -> None:
    """A change that is brought while the row is read makes it be read again."""
    through = HEAD.replace("WriteBehind", "ReadThrough") + (
        'ReadThrough(keys="person:{id}", table="persons", columns=["name", "age"], target=first, '
        "missing_ms=60000)\n"
        'WriteAround(keys="person:{id}", table="persons", target=first, poll_ms=1)\n'
    )
    system = following(tmp_path, database_url, through)
    with system as client:
        eventually(lambda: begun(system))
        assert hash_of(client, "person:1") == {}
        run_sql(database_url, "INSERT INTO persons VALUES (1, 'first', 0)")
        eventually(lambda: client.hget("person:1", "age") == b"0")
        for age in range(1, 60):
            run_sql(database_url, f"UPDATE persons SET age = {age} WHERE id = 1")
            for _ in range(age % 4):
                client.hget("person:1", "age")
        eventually(lambda: client.hget("person:1", "age") == b"59")
