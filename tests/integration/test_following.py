"""A follower in this process: its place in the outbox, and what becomes of it when something is lost."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy.engine import make_url

from connectors import Target, connect
from gears.applying.report import TargetReport
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function, build
from gears.worker.following import bringing, rowkeys, session
from gears.worker.following.follower import Follower
from gears.worker.shared import Shared
from tests.integration import deployed
from tests.integration.deploying import eventually, rows
from tests.integration.test_write_around import PERSONS, prepare
from tests.integration.workers import worker_of
from tests.servers import run_sql

COVERED = "SELECT functions NOT LIKE '%\"covered\": []%' FROM gearsync_follower"
AROUND = {"keys": "person:{id}", "table": "persons", "columns": ["name"], "poll_ms": 10}


def function(kind: str = "write-around", **options: Any) -> Function:
    """Return a function of the one target."""
    given = {**AROUND, **options}
    if kind != "write-around":
        del given["poll_ms"]
    made, mistakes = build(kind, given, "first", None, "")
    assert made is not None, mistakes
    return made


class World:
    """Redis with a deployment that no worker serves, and a database with triggers."""

    def __init__(self, url: str, *functions: Function, **options: Any) -> None:
        self.url = url
        self.functions = functions or (function(),)
        self.server = deployed.server("--appendonly", "yes", **options)

    def __enter__(self) -> World:
        run_sql(self.url, PERSONS)
        prepare(self.url)
        self.server.start()
        self.client = self.server.client()
        self.deploy()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()

    def deploy(self, version: int = 1) -> None:
        target = Target("env:UNUSED", name="first")
        self.deployment = Deployment(
            "people", version, functions=list(self.functions), targets={"first": target}, worker="external"
        )
        self.client.execute_command("GEARSYNC.DEPLOY", *self.deployment.deploy_arguments())

    @contextlib.contextmanager
    def following(self) -> Iterator[TargetReport]:
        """A follower at work, that has all there was."""
        shared = Shared(self.server.url, self.deployment, "test", lambda _: connect(self.url), {})
        report = TargetReport()
        follower = Follower(shared, "first", report)
        follower.start()
        try:
            eventually(lambda: report.around is not None and report.around["behind_s"] == 0)
            yield report
        finally:
            follower.halt()
            follower.thread.join()
            self.follower = follower

    def fill(self, *numbers: int) -> None:
        """Have hashes in Redis that are older than their rows."""
        for number in numbers:
            self.client.hset(f"person:{number}", "name", "old")
        deployed.apply_all(self.client)

    def there(self, *numbers: int) -> int:
        return int(self.client.exists(*(f"person:{number}" for number in numbers)))

    def followers(self) -> list[tuple[Any, ...]]:
        return rows(self.url, "SELECT name, horizon FROM gearsync_follower")


@pytest.fixture
def url(sqlite_url: str) -> str:
    """Where the kind of database makes no difference."""
    return sqlite_url


def go_back(url: str, backup: Path) -> None:
    """Have SQLite's files as they were in a folder beside them, and changes to beyond what was lost."""
    for path in backup.iterdir():
        shutil.copy(path, backup.parent)
    for number in (3, 4, 5):
        change(url, number)


def change(url: str, number: int) -> None:
    run_sql(url, f"DELETE FROM persons WHERE id = {number}")
    run_sql(url, f"INSERT INTO persons VALUES ({number}, 'new', 1)")


def test_what_changes_while_it_is_away_is_brought_later(database_url: str) -> None:
    with World(database_url) as world:
        with world.following():
            pass
        world.fill(1, 2)
        change(database_url, 1)
        assert world.there(1, 2) == 2
        with world.following():
            eventually(lambda: world.there(1) == 0)
            assert world.there(2) == 1


def test_at_the_first_start_all_keys_are_brought(url: str) -> None:
    """What was changed before is not known."""
    with World(url, function(), function(name="two", keys="two:{id}", on_change="refresh")) as world:
        world.fill(*range(300))
        world.client.hset("person:x:y", "name", "not covered")
        run_sql(url, "INSERT INTO persons VALUES (1, 'new', 1)")
        world.client.hset("two:1", "name", "old")
        world.client.hset("two:2", "name", "no row")
        with world.following():
            eventually(lambda: world.there(*range(300)) == 0)
            # Each function's part of a page of keys is brought for itself.
            eventually(lambda: world.client.hgetall("two:1") == {b"name": b"new"})
            eventually(lambda: world.client.exists("two:2") == 0)
            assert world.client.exists("person:x:y") == 1
        # Once.
        world.fill(1)
        with world.following():
            assert world.there(1) == 1


def test_keys_that_only_redis_has_stay_at_the_first_start(url: str) -> None:
    with World(url, function(), function("write-behind")) as world:
        world.fill(1, 2)
        with world.following():
            change(url, 1)
            eventually(lambda: world.there(1) == 0)
            assert world.there(2) == 1


def test_a_function_that_is_added_has_its_own_first_start(url: str) -> None:
    with World(url) as world:
        with world.following():
            pass
        world.fill(1)
        world.client.hset("two:1", "name", "old")
        world.functions = (function(), function(name="two", keys="two:{id}"))
        world.deploy(2)
        with world.following():
            eventually(lambda: world.client.exists("two:1") == 0)
            assert world.there(1) == 1


def test_a_position_that_redis_lost_is_taken_up_from_before(url: str, tmp_path: Path) -> None:
    """Redis crashes, and comes back without what was brought last: it is brought again."""
    with World(url) as world:
        with world.following():
            world.fill(1)
            saved: Any = world.client.hgetall(_place(world.client))
            change(url, 1)
            eventually(lambda: world.there(1) == 0)
        # As a log whose end is lost would leave it.
        world.client.hset(_place(world.client), mapping=saved)
        world.fill(1)
        with world.following():
            eventually(lambda: world.there(1) == 0)
        # And without any position there, the database knows one that is old enough.
        world.client.delete(_place(world.client))
        world.fill(1)
        with world.following():
            eventually(lambda: world.there(1) == 0)


def test_a_redis_that_comes_back_older_is_brought_what_it_lost(postgres_url: str) -> None:
    """The follower works on meanwhile; other transactions let the position grow."""
    with _forgetful(World(postgres_url)) as world, world.following() as report:
        world.fill(1, 2)
        world.client.save()
        change(postgres_url, 1)
        eventually(lambda: world.there(1) == 0)
        world.server.restart()
        run_sql(postgres_url, "CREATE TABLE unrelated (id INTEGER)")
        eventually(lambda: world.there(1) == 0)
        assert world.there(2) == 1
        eventually(lambda: report.state[0] == "running")


def test_so_is_one_that_nobody_writes_to(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNUSED", url)
    with _forgetful(World(url)) as world:
        world.fill(1, 2)
        with worker_of(world.server, "people", tmp_path):
            # All keys, for the first time.
            eventually(lambda: world.there(1, 2) == 0 and rows(url, COVERED) == [(1,)])
            world.client.hset("person:1", "name", "old")
            world.client.save()
            change(url, 1)
            eventually(lambda: world.there(1) == 0)
            world.server.restart()
            eventually(lambda: world.there(1) == 0)


def _forgetful(world: World) -> World:
    """Have Redis lose what it did not SAVE."""
    world.server = deployed.server("--appendonly", "no", "--save", "")
    return world


def _place(client: redis.Redis) -> Any:
    [found] = client.keys("gearsync:*:followed:people")
    return found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept, and looked at all the time."""
    monkeypatch.setattr(session, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(session, "RELEASE_SECONDS", 0.0)


def test_entries_go_when_all_followers_have_passed(hurried: None, database_url: str) -> None:
    kept = "SELECT count(*) FROM gearsync_outbox"
    # By the last entry, positions are known to be of this outbox; PostgreSQL has other means.
    left = 0 if database_url.startswith("postgresql") else 1
    with World(database_url) as one, _beside(one) as two:
        with two.following():
            pass
        one.fill(*range(50))
        two.fill(*range(50))
        with one.following():
            for number in range(50):
                change(database_url, number)
            eventually(lambda: one.there(*range(50)) == 0)
            assert rows(database_url, kept) == [(50,)]
            with two.following():
                eventually(lambda: two.there(*range(50)) == 0)
                eventually(lambda: rows(database_url, kept)[0][0] <= left)
        assert len(one.followers()) == 2
        two.follower.forget()
        assert len(one.followers()) == 1
        assert two.client.hgetall("gearsync:{0}:followed:people") == {}


@contextlib.contextmanager
def _beside(one: World) -> Iterator[World]:
    two = World(one.url)
    with two.server:
        two.client = two.server.client()
        two.deploy()
        yield two
        two.client.close()


def test_entries_go_although_connections_are_cut_all_the_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by idle timeouts of Redis or a firewall: no session is as long as entries are kept."""
    monkeypatch.setattr(session, "KEEP_SECONDS", 2.0)
    monkeypatch.setattr(session, "RELEASE_SECONDS", 0.0)
    with World(database_url) as world, world.following():
        numbers = itertools.count(1)

        def cut_and_look() -> bool:
            number = next(numbers)
            change(database_url, number)
            world.client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.3)
            [(left,)] = rows(database_url, "SELECT count(*) FROM gearsync_outbox")
            return int(left) < number

        eventually(cut_and_look)


def test_a_follower_that_was_let_go_brings_all_keys(
    hurried: None, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gearsync.worker")
    with World(database_url) as one, _beside(one) as two:
        with two.following():
            pass
        two.fill(1, 2)
        run_sql(database_url, "UPDATE gearsync_follower SET seen_at = seen_at - 8 * 86400")
        with one.following():
            change(database_url, 1)
            eventually(lambda: sorted(horizon is None for _, horizon in one.followers()) == [False, True])
            assert "was away for too long" in caplog.text
            eventually(lambda: len(rows(database_url, "SELECT 1 FROM gearsync_outbox")) <= 1)
        with two.following():
            eventually(lambda: two.there(1, 2) == 0)
        assert "has lost its place in the outbox: it was not waited for any longer" in caplog.text


def test_a_follower_that_is_let_go_while_it_works_notices(
    hurried: None, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with World(url) as world:
        with world.following():
            world.fill(1)
            run_sql(url, "UPDATE gearsync_follower SET horizon = NULL")
            eventually(lambda: world.there(1) == 0)
        assert "has lost its place" in caplog.text


def test_a_redis_that_went_back_too_far_brings_all_keys(
    hurried: None, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with World(url) as world:
        with world.following():
            saved: Any = world.client.hgetall(_place(world.client))
            for number in range(5):
                change(url, number)
            eventually(lambda: len(rows(url, "SELECT 1 FROM gearsync_outbox")) == 1)
        world.client.hset(_place(world.client), mapping=saved)
        world.fill(1, 100)
        with world.following():
            eventually(lambda: world.there(1, 100) == 0)
        assert "Redis has gone back" in caplog.text


def test_an_outbox_that_is_made_anew_brings_all_keys(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with World(database_url) as world:
        with world.following():
            change(database_url, 1)
        for table in ("gearsync_outbox", "gearsync_follower"):
            run_sql(database_url, f"DROP TABLE {table}")
        prepare(database_url)
        world.fill(1, 2)
        with world.following():
            eventually(lambda: world.there(1, 2) == 0)
        assert "it was made anew" in caplog.text


def test_a_database_that_comes_back_older_and_goes_on_brings_all_keys(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its newest entry has a number by then that was read before."""
    with World(sqlite_url) as world:
        with world.following():
            world.fill(1, 2, 3)
            change(sqlite_url, 1)
            eventually(lambda: world.there(1) == 0)
        backup = Path(shutil.copytree(tmp_path, tmp_path / "backup"))
        with world.following():
            change(sqlite_url, 2)
            eventually(lambda: world.there(2) == 0)
        go_back(sqlite_url, backup)
        with world.following():
            eventually(lambda: world.there(3) == 0)
        assert "has gone back to an older state" in caplog.text


def test_what_a_database_that_came_back_older_lacks_stays_where_functions_write_it(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Redis is newer, and the one that still has it."""
    refreshed = function(name="two", keys="two:{id}", on_change="refresh")
    with World(sqlite_url, function(), function("write-behind"), refreshed) as world:
        with world.following():
            change(sqlite_url, 1)
        backup = Path(shutil.copytree(tmp_path, tmp_path / "backup"))
        with world.following():
            change(sqlite_url, 2)
            eventually(lambda: world.client.exists("two:2") == 1)
        world.fill(2, 3)
        go_back(sqlite_url, backup)
        with world.following():
            eventually(lambda: world.there(3) == 0)
            # A copy of a row that is lost goes.
            eventually(lambda: world.client.exists("two:2") == 0)
            assert world.there(2) == 1


def test_an_outbox_that_begins_anew_while_it_works_brings_all_keys(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ids are again those of entries that were read."""
    backend = make_url(database_url).get_backend_name()
    with World(database_url) as world, world.following():
        world.fill(1, 2, 3, 4)
        for number in (1, 2):
            change(database_url, number)
        eventually(lambda: world.there(1, 2) == 0)
        if backend == "sqlite":
            run_sql(database_url, "DELETE FROM gearsync_outbox")
            run_sql(database_url, "DELETE FROM sqlite_sequence WHERE name = 'gearsync_outbox'")
        else:
            run_sql(database_url, "TRUNCATE TABLE gearsync_outbox")
        change(database_url, 3)
        eventually(lambda: world.there(3) == 0)
        if backend != "postgresql":
            # What was not read yet, nobody knows.
            eventually(lambda: world.there(4) == 0)
            assert "has lost its place" in caplog.text


def test_without_triggers_it_says_so(url: str) -> None:
    with World(url) as world:
        run_sql(url, "DROP TABLE persons")
        run_sql(url, PERSONS)
        shared = Shared(world.server.url, world.deployment, "test", lambda _: connect(url), {})
        report = TargetReport()
        follower = Follower(shared, "first", report)
        follower.start()
        eventually(lambda: "gearsync triggers FILE --apply" in report.state[1])
        prepare(url)
        eventually(lambda: report.state[0] == "running")
        follower.halt()
        follower.thread.join()


def test_triggers_that_go_while_it_works(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a tool that changes tables online puts another one in the place of a followed one."""
    monkeypatch.setattr(session, "RELEASE_SECONDS", 0.05)
    with World(database_url) as world, world.following() as report:
        change(database_url, 1)
        run_sql(database_url, "DROP TABLE persons")
        run_sql(database_url, PERSONS)
        eventually(lambda: "gearsync triggers FILE --apply" in report.state[1])
        world.fill(1, 2, 3)
        # Nobody writes that down.
        change(database_url, 2)
        prepare(database_url)
        eventually(lambda: world.there(1, 2, 3) == 0)
        eventually(lambda: report.state[0] == "running")
        world.fill(1)
        change(database_url, 1)
        eventually(lambda: world.there(1) == 0)


def test_truncate_brings_all_keys(postgres_url: str) -> None:
    with World(postgres_url, function(on_change="refresh")) as world, world.following():
        run_sql(postgres_url, "INSERT INTO persons SELECT n, 'new', 1 FROM generate_series(1, 3000) n")
        eventually(lambda: world.there(*range(1, 3001)) == 3000)
        run_sql(postgres_url, "TRUNCATE persons")
        run_sql(postgres_url, "INSERT INTO persons VALUES (7, 'again', 1)")
        eventually(lambda: world.there(*range(1, 3001)) == 1)
        assert world.client.hgetall("person:7") == {b"name": b"again"}


def test_a_key_whose_change_waits_is_left_until_it_is_in_sql(database_url: str) -> None:
    """SQL does not have it yet; Redis is newer."""
    around = function(on_change="refresh", columns=["name", "age"])
    with World(database_url, around, function("write-behind")) as world, world.following() as report:
        # From here on, keys that wait are told apart.
        world.client.execute_command("GEARSYNC.WAITING", 0, "person:1")
        world.client.hset("person:1", "name", "redis")
        change(database_url, 1)
        change(database_url, 2)
        eventually(lambda: world.there(2) == 1)
        eventually(lambda: report.around is not None and report.around["waiting"] == 1)
        assert world.client.hgetall("person:1") == {b"name": b"redis"}
        before = world.client.hgetall(_place(world.client))
        # What a lane's worker does.
        connector = connect(database_url)
        with connector.transaction() as connection:
            connection.exec_driver_sql("UPDATE persons SET name = 'redis' WHERE id = 1")
        connector.close()
        assert world.client.hgetall("person:1") == {b"name": b"redis"}
        deployed.apply_all(world.client)
        eventually(lambda: world.client.hgetall("person:1") == {b"name": b"redis", b"age": b"1"})
        eventually(lambda: world.client.hgetall(_place(world.client)) != before)
        assert report.around is not None


def test_a_write_that_comes_between_the_row_and_its_hash_stays(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its change is in SQL and acknowledged by then, so that nothing waits any more."""
    with World(url, function(on_change="refresh"), function("write-behind")) as world:
        read = rowkeys.RowKeys.__init__

        def slow(self: Any, *arguments: Any) -> None:
            read(self, *arguments)
            plain = self.reader.read

            def reading(keys: list[bytes]) -> Any:
                found = plain(keys)
                if b"person:1" in found and not done:
                    done.append(True)
                    world.client.hset("person:1", "name", "redis")
                    connector = connect(url)
                    with connector.transaction() as connection:
                        connection.exec_driver_sql("UPDATE persons SET name = 'redis' WHERE id = 1")
                    connector.close()
                    deployed.apply_all(world.client)
                return found

            self.reader.read = reading

        done: list[bool] = []
        monkeypatch.setattr(rowkeys.RowKeys, "__init__", slow)
        with world.following():
            run_sql(url, "INSERT INTO persons VALUES (1, 'new', 1), (2, 'new', 1), (3, 'new', 1)")
            eventually(lambda: bool(done) and world.there(1, 2, 3) == 3)
            assert world.client.hgetall("person:1") == {b"name": b"redis"}
            assert world.client.hgetall("person:3") == {b"name": b"new"}


def test_large_rows_come_a_few_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer servers take no transaction beyond client-query-buffer-limit: the follower stood still."""
    monkeypatch.setattr(bringing, "REFRESH_BYTES", 100)
    with World(url, function(on_change="refresh")) as world, world.following():
        values = ", ".join(f"({number}, 'of 15 characters', 1)" for number in range(64))
        run_sql(url, f"INSERT INTO persons VALUES {values}")
        eventually(lambda: world.there(*range(64)) == 64)
        assert world.client.info("commandstats")["cmdstat_gearsync.put"]["calls"] >= 16


def test_a_row_that_can_not_be_read_keeps_no_other_back(postgres_url: str) -> None:
    whole = make_url(postgres_url)
    name = f"{whole.database}_1252"
    run_sql(postgres_url, f"CREATE DATABASE {name} ENCODING 'WIN1252' TEMPLATE template0 LOCALE 'C'")
    other = whole.set(database=name).render_as_string(hide_password=False)
    try:
        with World(other, function(on_change="refresh")) as world, world.following() as report:
            run_sql(other, "INSERT INTO persons VALUES (1, 'new', 1), (2, 'new', 1), (3, 'new', 1)")
            eventually(lambda: world.there(1, 2, 3) == 3)
            # A byte that no UTF-8 stands for.
            bad = "convert_from('\\x81', 'SQL_ASCII')"
            run_sql(other, f"UPDATE persons SET name = CASE id WHEN 2 THEN {bad} ELSE 'newer' END")
            eventually(lambda: world.client.hget("person:3", "name") == b"newer")
            eventually(lambda: report.around is not None and report.around["waiting"] == 0)
            assert world.client.hget("person:1", "name") == b"newer"
            assert world.there(2) == 0
            run_sql(other, "UPDATE persons SET name = 'good' WHERE id = 2")
            eventually(lambda: world.client.hget("person:2", "name") == b"good")
    finally:
        run_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_it_rests_while_too_much_waits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST", 2)
    monkeypatch.setattr(session, "MOST_OPEN", 2)
    begun: list[session.Following] = []
    plain = session.Following.open

    def opened(self: session.Following) -> None:
        begun.append(self)
        plain(self)

    monkeypatch.setattr(session.Following, "open", opened)
    with World(url, function(), function("write-behind")) as world, world.following() as report:
        for number in range(1, 6):
            # Nobody brings them to SQL, so that they wait.
            world.client.hset(f"person:{number}", "name", "waits")
        values = ", ".join(f"({number}, 'new', 1)" for number in range(1, 6))
        run_sql(url, f"INSERT INTO persons VALUES {values}")
        eventually(lambda: report.around is not None and report.around["waiting"] == 2)
        eventually(lambda: begun[0].pause_seconds > 0)
        deployed.apply_all(world.client)
        eventually(lambda: world.there(1, 2, 3, 4, 5) == 0)


def test_other_databases_of_redis(url: str) -> None:
    with World(url, function(db=3), function(name="two", on_change="refresh", db=5)) as world:
        three, five = (world.server.client(db=db) for db in (3, 5))
        for client in (world.client, three, five):
            client.hset("person:1", "name", "old")
        with world.following():
            change(url, 1)
            eventually(lambda: five.hgetall("person:1") == {b"name": b"new"})
            eventually(lambda: three.exists("person:1") == 0)
            assert world.client.hgetall("person:1") == {b"name": b"old"}
            change(url, 2)
            eventually(lambda: five.exists("person:2") == 1)
        three.close()
        five.close()
