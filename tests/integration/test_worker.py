"""What becomes of writes: real servers, the worker that the module starts, and the rows at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests import hosts
from tests.integration.deploying import eventually, gearsync, rows
from tests.integration.system import System
from tests.servers import run_sql

HEAD = """
from __future__ import annotations

from connectors import Target
from gears import Change, WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
"""
PERSONS = (
    "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20) DEFAULT 'nobody', age INTEGER, "
    "email VARCHAR(40) UNIQUE)"
)
PLAIN = (
    HEAD
    + 'WriteBehind(keys="person:{id}", table="persons", columns=["name", "age", "email"], target=first)\n'
)


def sqlite(folder: Path, *statements: str) -> str:
    """Create a SQLite database and return its URL."""
    folder.mkdir(exist_ok=True)
    url = f"sqlite:///{folder / 'target.db'}"
    for statement in statements:
        run_sql(url, statement)
    return url


def persons(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT id, name, age FROM persons ORDER BY id")


def test_rows_follow_hashes(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        system.wait()
        client.hset("person:1", mapping={"name": "Ada", "age": 36})
        client.hset("person:2", mapping={"age": 7})
        client.hset("person:3", mapping={"name": "Joe", "age": 50})
        client.hset("person:4", mapping={"name": "Moe", "other": "not mapped"})
        system.wait()
        assert persons(database_url) == [(1, "Ada", 36), (2, "nobody", 7), (3, "Joe", 50), (4, "Moe", None)]
        client.hincrby("person:1", "age", 1)
        client.hdel("person:2", "age")
        client.hset("person:2", "name", "Eve")
        client.delete("person:3")
        client.rename("person:4", "person:5")
        with client.pipeline(transaction=True) as pipe:
            pipe.hset("person:6", "name", "Zoe")
            pipe.hdel("person:1", "name")
            pipe.execute()
        client.eval("redis.call('HSET', KEYS[1], 'age', 9)", 1, "person:7")
        system.wait()
        assert persons(database_url) == [
            (1, None, 37),
            (2, "Eve", None),
            (5, "Moe", None),
            (6, "Zoe", None),
            (7, "nobody", 9),
        ]
        client.pexpire("person:7", 20)
        eventually(lambda: [row[0] for row in persons(database_url)] == [1, 2, 5, 6])


def test_keys_of_several_parts(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE orders (id INTEGER, region VARCHAR(10), total NUMERIC(9, 2), PRIMARY KEY (region, id))",
    )
    functions = (
        HEAD + 'WriteBehind(keys="order:{region}:{id}", table="orders", columns=["total"], target=first)\n'
    )
    system = System(tmp_path, functions, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        for region, number, total in (("eu", 1, "1.50"), ("us", 1, "2"), ("eu", 2, "3")):
            client.hset(f"order:{region}:{number}", "total", total)
        client.hset("order:eu:1:more", "total", "9")
        client.delete("order:us:1")
        system.wait()
        found = rows(database_url, "SELECT region, id, total FROM orders ORDER BY region, id")
        assert [(region, number, float(total)) for region, number, total in found] == [
            ("eu", 1, 1.5),
            ("eu", 2, 3),
        ]


def test_policies_keep_rows(host: str, tmp_path: Path) -> None:
    url = sqlite(tmp_path / "first", PERSONS)
    functions = PLAIN.replace("target=first", 'target=first, on_delete="keep", on_expire="keep"')
    system = System(tmp_path, functions, {"FIRST_DB_URL": url}, host=host)
    with system as client:
        client.hset("person:1", "name", "Ada")
        client.hset("person:2", "name", "Eve")
        system.wait()
        client.delete("person:1")
        client.pexpire("person:2", 25)
        eventually(lambda: not client.exists("person:2"))
        system.wait()
        assert persons(url) == [(1, "Ada", None), (2, "Eve", None)]


def test_a_target_that_is_away_holds_up_nobody_and_gets_all_in_the_end(host: str, tmp_path: Path) -> None:
    """Redis goes on, the other target goes on, and the worker says what it waits for."""
    functions = HEAD + (
        'second = Target("env:SECOND_DB_URL", name="second")\n'
        'WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=first)\n'
        'WriteBehind(keys="person:{id}", table="ages", columns=["age"], target=first)\n'
        'WriteBehind(keys="person:{id}", table="persons", columns=["age"], target=second, name="copy")\n'
    )
    url = sqlite(tmp_path / "first", PERSONS, "CREATE TABLE ages (id INTEGER PRIMARY KEY, age INTEGER)")
    variables = {"FIRST_DB_URL": url, "SECOND_DB_URL": f"sqlite:///{tmp_path / 'second' / 'target.db'}"}
    system = System(tmp_path, functions, variables, away=True, host=host)
    with system as client:
        longest = 0.0
        for number in range(500):
            begin = time.monotonic()
            client.hset(f"person:{number}", mapping={"name": f"n{number}", "age": number})
            longest = max(longest, time.monotonic() - begin)
        eventually(lambda: rows(url, "SELECT count(*) FROM ages") == [(500,)])
        assert rows(url, "SELECT count(*) FROM persons") == [(500,)]
        system.until_waiting("second", "unable to open database file")
        assert longest < 10, "a write waited for SQL"
        assert system.target("first")["state"] == "running"
        assert system.status()["backlog"]["entries"] == 500
        lines = [line for line in system.server.log_text().splitlines() if "unable to open" in line]
        assert 1 <= len(lines) < 20
        second = sqlite(tmp_path / "second", PERSONS)
        system.wait()
        assert rows(second, "SELECT count(*), sum(age) FROM persons") == [(500, 499 * 250)]
        assert system.letters() == []


TRANSFORM = (
    HEAD
    + """
def seen(change: Change) -> Change | None:
    if change.fields.get("name") == "drop":
        return None
    if change.fields.get("name") == "raise":
        raise ValueError("no such person")
    change.fields["age"] = int(change.fields.pop("years", 0)) + 1
    return change


WriteBehind(keys="person:{id}", table="persons", columns=["name", "age"], target=first, transform=seen)
"""
)


def test_a_transform_changes_drops_and_may_fail(host: str, tmp_path: Path) -> None:
    url = sqlite(tmp_path / "first", PERSONS)
    system = System(tmp_path, TRANSFORM, {"FIRST_DB_URL": url}, host=host)
    with system as client:
        client.hset("person:1", mapping={"name": "Ada", "years": 36})
        client.hset("person:2", mapping={"name": "drop", "years": 1})
        client.hset("person:3", mapping={"name": "raise", "years": 1})
        client.hset("person:4", mapping={"name": "Eve"})
        system.wait()
        assert persons(url) == [(1, "Ada", 37), (4, "Eve", 1)]
        [letter] = system.letters()
        assert (letter["key"], letter["image"]) == ("person:3", {"name": "raise", "years": "1"})
        assert letter["reason"] == "the transform of persons raised ValueError: no such person"


def test_refused_rows_are_dead_letters_and_the_others_arrive(
    host: str, database_url: str, tmp_path: Path
) -> None:
    """By the worker (no integer, too long) and by the database alone (a double e-mail)."""
    run_sql(database_url, PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        client.hset("person:0", mapping={"name": "first", "email": "a@b"})
        system.wait()
        with client.pipeline(transaction=False) as pipe:
            for number in range(1, 301):
                pipe.hset(f"person:{number}", mapping={"name": f"n{number}", "age": number})
            pipe.hset("person:50", "age", "old")
            pipe.hset("person:60", "name", "x" * 21)
            pipe.hset("person:70", "email", "a@b")
            pipe.hset("person:x", "name", "no number")
            pipe.hset("person:80", "age", "old")
            pipe.hdel("person:80", "name")
            pipe.execute()
        system.wait()
        found = {row[0]: row for row in persons(database_url)}
        assert len(found) == 301
        assert all(found[number] == (number, f"n{number}", number) for number in range(1, 301))
        letters = {letter["key"]: letter for letter in system.letters()}
        assert {key: letter["column"] for key, letter in letters.items()} == {
            "person:50": "age",
            "person:60": "name",
            "person:70": letters["person:70"]["column"],
            "person:x": "id",
            "person:80": "age",
        }
        assert letters["person:50"]["image"] == {"name": "n50", "age": "old"}
        assert "whole number" in letters["person:50"]["reason"]
        assert "email" in letters["person:70"]["reason"]
        # A later write heals the row, also what went in a refused one, and a retry brings what was mended.
        client.hset("person:80", "age", 81)
        system.wait()
        assert persons(database_url)[80] == (80, None, 81)
        client.hset("person:50", "age", 51)
        client.hset("person:60", "name", "short")
        client.hset("person:70", "email", "c@d")
        client.delete("person:x")
        done = gearsync("deadletters", "retry", "--all", "--redis", system.server.url)
        assert done.returncode == 0, done.stderr
        system.wait()
        assert rows(
            database_url, "SELECT id, name, age, email FROM persons WHERE id IN (50, 60, 70) ORDER BY id"
        ) == [
            (50, "n50", 51, None),
            (60, "short", 60, None),
            (70, "n70", 70, "c@d"),
        ]
        assert system.letters() == []


def test_a_table_that_is_gone_is_waited_for(host: str, database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": database_url}, host=host)
    with system as client:
        client.hset("person:1", "name", "Ada")
        system.wait()
        run_sql(database_url, "DROP TABLE persons")
        client.hset("person:2", "name", "Eve")
        client.hset("person:3", "name", "Joe")
        system.until_waiting("first", "persons")
        assert system.letters() == []
        run_sql(database_url, PERSONS)
        system.wait()
        assert persons(database_url) == [(2, "Eve", None), (3, "Joe", None)]


def test_an_entry_that_is_no_change_is_a_dead_letter(host: str, tmp_path: Path) -> None:
    url = sqlite(tmp_path / "first", PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": url}, host=host)
    with system as client:
        lane = system.status()["targets"][0]["lanes"][0]["stream"]
        client.xadd(lane, {"hello": "world"})
        client.xadd(lane, {"k": "person:1", "m": "zz"})
        client.hset("person:2", "name", "Eve")
        system.wait()
        assert persons(url) == [(2, "Eve", None)]
        assert len(system.letters()) == 2
        assert all("no change" in letter["reason"] for letter in system.letters())


def test_a_restart_of_redis_resumes(host: str, tmp_path: Path) -> None:
    url = sqlite(tmp_path / "first", PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": url}, host=host)
    with system as client:
        client.hset("person:1", "name", "Ada")
        client.hset("person:3", mapping={"name": "Bob", "age": 3})
        system.wait()
        client.hset("person:3", "age", "old")
        client.hdel("person:3", "name")
        system.wait()
        with system.environment():
            system.server.terminate()
            system.server.start()
        client.hset("person:2", "name", "Eve")
        client.hset("person:3", "age", 4)
        system.wait()
        # What went in a write that was refused before is known too.
        assert persons(url) == [(1, "Ada", None), (2, "Eve", None), (3, None, 4)]
        assert rows(url, "SELECT applied FROM gearsync_checkpoint") == [(4,)]


def test_two_deployments_have_two_workers(host: str, tmp_path: Path) -> None:
    """One deployment's faults are its own: the other goes on while one waits for its table."""
    url = sqlite(tmp_path / "first", PERSONS)
    system = System(tmp_path, PLAIN, {"FIRST_DB_URL": url}, host=host)
    with system as client:
        broken = tmp_path / "broken.py"
        broken.write_text(PLAIN.replace("person:", "order:").replace('table="persons"', 'table="orders"'))
        with system.environment():
            gearsync("deploy", str(broken), "--redis", system.server.url, "--offline", "--timeout", "1")
        for number in range(3):
            client.hset(f"order:{number}", "name", "x")
            client.hset(f"person:{number}", "name", "y")
        assert hosts.wait(system.server, 9, "functions")
        assert len(persons(url)) == 3
        assert not hosts.wait(system.server, 0.01, "broken")
