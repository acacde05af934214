"""Keys that are no hashes, all the way to rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests import redisgears as gears12
from tests.integration.comparing import drop_letters, named, verify
from tests.integration.deploying import eventually, gearsync, rows
from tests.integration.module.documents import json_type
from tests.integration.system import System
from tests.servers import run_sql

HEAD = """
from connectors import Target
from gears import WriteBehind

first = Target("env:FIRST_DB_URL", name="first")
"""
DOCUMENTS = HEAD + (
    'WriteBehind(keys="user:{id}", table="users", type="json", target=first, columns={"$.name": "name",\n'
    '    "$.address.city": "city", "$.score": "score", "$.good": "good", "$.tags": "tags",\n'
    '    "$": "document"})\n'
)
ADDED = (
    'WriteBehind(keys="doc:{id}", table="docs", columns=["name", "born"], target=first, rest="others",\n'
    '    constants={"tenant": "eu", "level": 3}, computed={"label": "{name} of {id}", "at": "{@time}"},\n'
    '    on_delete="mark")\n'
)
DOCS = (
    "CREATE TABLE docs (id INTEGER PRIMARY KEY, name VARCHAR(20), born DATE, others JSON, tenant VARCHAR(9), "
    "level INTEGER, label VARCHAR(40) DEFAULT 'none', at BIGINT, deleted_at BIGINT)"
)
USERS = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(20), city VARCHAR(20) DEFAULT 'none', "
    "score NUMERIC(30, 10), good BOOLEAN, tags JSON, document JSON)"
)


MEMBERS = (
    'WriteBehind(keys="tags:{id}", table="tags", type="set", columns={"member": "tag"}, target=first,\n'
    "    members=3)\n"
    'WriteBehind(keys="queue:{id}", table="queue", type="list", target=first,\n'
    '    columns={"index": "place", "value": "item"})\n'
    'WriteBehind(keys="board:{game}:{id}", table="board", type="zset", target=first, db=1,\n'
    '    columns={"member": "player", "score": "points"}, on_expire="keep")\n'
)
TABLES = (
    "CREATE TABLE tags (id INTEGER, tag VARCHAR(10), note VARCHAR(10) DEFAULT 'new', PRIMARY KEY (id, tag))",
    "CREATE TABLE queue (place INTEGER, id INTEGER, item INTEGER, PRIMARY KEY (id, place))",
    "CREATE TABLE board (game VARCHAR(10), id INTEGER, player VARCHAR(10), points DOUBLE PRECISION, "
    "PRIMARY KEY (game, id, player))",
)
URL = "FIRST_DB_URL"


@pytest.fixture(
    scope="module", params=["module sqlite", "module postgres", "module mariadb", "redisgears sqlite"]
)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """All these functions at work, with the tables in each database; on RedisGears those of documents."""
    host, kind = request.param.split()
    if host == "redisgears" and gears12.home() is None:
        pytest.skip(gears12.ABSENT)
    folder = tmp_path_factory.mktemp("kinds")
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    url = f"sqlite:///{folder / 'target.db'}" if database is None else database.create_database()
    for statement in (USERS, DOCS, *TABLES):
        run_sql(url, statement)
    functions = DOCUMENTS + ADDED + (MEMBERS if host == "module" else "")
    options = ("--appendonly", "yes", *(json_type(folder) if host == "module" else ()))
    made = System(folder, functions, {URL: url}, options=options, host=host)
    with made:
        yield made
    if database is not None:
        database.drop_database(url)


def plant_in_documents(system: System) -> None:
    """Make rows of documents differ in each way."""
    for statement in (
        "DELETE FROM users WHERE id = 1",
        "UPDATE users SET name = 'Eve', score = 1 WHERE id = 2",
        # What a document lacks is NULL, and not the default.
        "UPDATE users SET city = 'none' WHERE id = 3",
        """UPDATE users SET tags = '["x", {"y": 2}]' WHERE id = 4""",
        # The same document, and another writing of it.
        """UPDATE users SET tags = '[ "x",{"y":1}]' WHERE id = 5""",
        "INSERT INTO users (id, name) VALUES (70, 'x')",
        "INSERT INTO users (id, name) VALUES (60, 'x')",
    ):
        run_sql(system.variables[URL], statement)


def test_documents_are_compared(system: System) -> None:
    client, numbers = system.client, range(1, 21)
    for number in numbers:
        client.set(
            f"user:{number}", f'{{"name": "é{number}", "score": {number}.50, "tags": ["x", {{"y": 1}}]}}'
        )
    client.set("user:007", '{"name": "another name of 7"}')
    client.hset("user:60", "name", "of another type")
    client.set("user:61", "no JSON")
    system.wait()
    client.delete("user:007")
    client.set("user:7", '{"good": true}')
    equal = verify(system, "--function", "users", code=1)["users"]
    assert named(equal) == {"user:61": ("missing", [])}
    assert equal["differences"][0]["reason"].startswith("dead letter: the key holds no JSON document")
    client.delete("user:61")
    plant_in_documents(system)
    found = verify(system, "--function", "users", code=1)["users"]
    assert named(found) == {
        "user:1": ("missing", []),
        "user:2": ("differs", ["name", "score"]),
        "user:3": ("differs", ["city"]),
        "user:4": ("differs", ["tags"]),
        "user:60": ("extra", []),
        "user:70": ("extra", []),
    }
    repaired = verify(system, "--function", "users", "--repair")["users"]
    assert (repaired["hashes"], repaired["repaired"], repaired["left"]) == (20, 6, 0)
    client.delete("user:60", *(f"user:{number}" for number in numbers))
    system.wait()
    drop_letters(system)


def test_rows_with_more_than_fields_are_compared(system: System) -> None:
    client, url = system.client, system.variables[URL]
    for number in range(1, 31):
        client.hset(f"doc:{number}", mapping={"name": f"é{number}", "born": "2024-01-31", "b": "2", "a": "ä"})
    # The row of this key is that of doc:31.
    client.hset("doc:031", mapping={"born": "2024-01-31", "c": "x"})
    client.delete("doc:30")
    system.wait()
    options = "--function", "docs"
    equal = verify(system, *options)["docs"]
    assert (equal["hashes"], equal["rows"]) == (30, 30)
    for statement in (
        "DELETE FROM docs WHERE id = 1",
        "UPDATE docs SET born = '2024-02-01', name = NULL WHERE id = 2",
        """UPDATE docs SET others = '{"b":"2"}' WHERE id = 3""",
        # The same, written otherwise.
        """UPDATE docs SET others = '{"b": "2", "a": "ä"}' WHERE id = 4""",
        "UPDATE docs SET tenant = 'us', level = 4 WHERE id = 5",
        "UPDATE docs SET label = 'other' WHERE id = 6",
        "UPDATE docs SET deleted_at = 1 WHERE id = 7",
        # Of a deleted key, and as if it were there.
        "UPDATE docs SET deleted_at = NULL WHERE id = 30",
        # What is computed and has nothing is NULL; the time is no state.
        "UPDATE docs SET label = 'none' WHERE id = 31",
        "UPDATE docs SET at = 1 WHERE id = 8",
    ):
        run_sql(url, statement)
    found = verify(system, *options, code=1)["docs"]
    assert named(found) == {
        "doc:1": ("missing", []),
        "doc:2": ("differs", ["name", "born"]),
        "doc:3": ("differs", ["others"]),
        "doc:5": ("differs", ["tenant", "level"]),
        "doc:6": ("differs", ["label"]),
        "doc:7": ("differs", ["deleted_at"]),
        "doc:30": ("extra", []),
        "doc:031": ("differs", ["label"]),
    }
    repaired = verify(system, *options, "--repair")["docs"]
    assert (repaired["repaired"], repaired["left"]) == (8, 0)


def plant_in_members(system: System) -> None:
    """Make rows of sets, lists and sorted sets differ in each way."""
    for statement in (
        "DELETE FROM tags WHERE id = 11",
        "DELETE FROM tags WHERE id = 12 AND tag = 'é'",
        "INSERT INTO tags (id, tag) VALUES (13, 'more')",
        "INSERT INTO tags (id, tag) VALUES (90, 'a')",
        "INSERT INTO tags (id, tag) VALUES (90, 'b')",
        # A key of this name is there, and no set.
        "INSERT INTO tags (id, tag) VALUES (91, 'a')",
        # What no mapping writes.
        "UPDATE tags SET note = 'other' WHERE id = 14",
        "UPDATE queue SET item = 9 WHERE id = 11 AND place = 1",
        "DELETE FROM queue WHERE id = 12 AND place = 2",
        "UPDATE board SET points = 3 WHERE player = 'p11'",
        "INSERT INTO board VALUES ('go', 1, 'x', 1)",
    ):
        run_sql(system.variables[URL], statement)


def test_members_are_compared(system: System) -> None:
    if system.host == "redisgears":
        pytest.skip("RedisGears brings no members")
    client, numbers = system.client, range(11, 31)
    with system.server.client(db=1) as other:
        for number in numbers:
            client.sadd(f"tags:{number}", "é", f"b{number}")
            client.rpush(f"queue:{number}", 10, 20, 30)
            other.zadd(f"board:go:{number}", {"ann": 0.1, f"p{number}": number})
        client.set("tags:91", "no set")
        client.sadd("tags:92", "a", "b", "c", "d")
        system.wait()
        equal = verify(system, "--repair", code=1)
        assert {table: report["left"] for table, report in equal.items()} == {
            "users": 0,
            "docs": 0,
            "tags": 1,
            "queue": 0,
            "board": 0,
        }
        assert "the set has 4 members, and members=3 is the most" in equal["tags"]["differences"][0]["reason"]
        client.delete("tags:92")
        plant_in_members(system)
        found = verify(system, code=1)
        assert named(found["tags"]) == {
            "tags:11": ("missing", [], {"missing": 2}),
            "tags:12": ("differs", ["tag"], {"missing": 1}),
            "tags:13": ("differs", ["tag"], {"extra": 1}),
            "tags:90": ("extra", [], {"extra": 2}),
            "tags:91": ("extra", [], {"extra": 1}),
        }
        assert named(found["queue"]) == {
            "queue:11": ("differs", ["item"], {"differs": 1}),
            "queue:12": ("differs", ["place"], {"missing": 1}),
        }
        assert named(found["board"]) == {"board:go:11": ("differs", ["points"], {"differs": 1})}
        # The sets' two rows each, and those that no key has, less those that are gone.
        assert (found["tags"]["type"], found["tags"]["rows"], found["board"]["kept"]) == ("set", 41, 1)
        repaired = verify(system, "--repair", "--delete-extra")
        assert {table: report["repaired"] for table, report in repaired.items()} == {
            "users": 0,
            "docs": 0,
            "tags": 5,
            "queue": 2,
            "board": 2,
        }
        for number in numbers:
            client.delete(f"tags:{number}", f"queue:{number}")
            other.delete(f"board:go:{number}")
        client.delete("tags:91")
        system.wait()
        drop_letters(system)


def test_documents_are_backfilled(system: System) -> None:
    database_url, client = system.variables[URL], system.client
    client.set("user:90", '{"name": "Ada"}')
    system.wait()
    run_sql(database_url, "DELETE FROM users WHERE id = 90")
    with system.environment():
        done = gearsync("backfill", system.functions, "--redis", system.server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(database_url, "SELECT name FROM users WHERE id = 90") == [("Ada",)]
    client.delete("user:90")
    system.wait()


def test_documents_of_the_json_type_are_as_those_in_strings(system: System) -> None:
    """Through a restart too, from the AOF; compared, repaired and backfilled."""
    url, client = system.variables[URL], system.client
    if system.host != "module" or not url.startswith("sqlite"):
        pytest.skip("RedisGears brings documents in strings; to the databases they are the same")

    def names() -> list[tuple[object, ...]]:
        return rows(url, "SELECT id, name, document FROM users ORDER BY id")

    def put(number: int, document: object) -> None:
        client.execute_command("JSON.SET", f"user:{number}", "$", json.dumps(document))

    long = "é\U0001f600" * 200_000
    put(101, {"name": "Ada", "more": long})
    put(102, ["é"])
    put(103, None)
    put(104, {"name": "Eve"})
    client.execute_command("JSON.DEL", "user:104")
    client.copy("user:101", "user:105")
    system.wait()
    with system.environment():
        system.server.restart()
    put(103, {"name": "Bob"})
    system.wait()
    found = [(number, name) for number, name, _ in names()]
    assert found == [(101, "Ada"), (102, None), (103, "Bob"), (105, "Ada")]
    document = names()[0][2]
    assert (document if isinstance(document, dict) else json.loads(str(document)))["more"] == long
    client.rpush("user:160", "of another type")
    run_sql(url, "UPDATE users SET name = 'Eve' WHERE id = 101")
    run_sql(url, "DELETE FROM users WHERE id = 102")
    repaired = verify(system, "--function", "users", "--repair")["users"]
    assert (repaired["hashes"], repaired["repaired"], repaired["left"]) == (4, 2, 0)
    run_sql(url, "DELETE FROM users WHERE id > 100")
    with system.environment():
        done = gearsync("backfill", system.functions, "--redis", system.server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(number, name) for number, name, _ in names()] == found
    client.delete("user:160", *(f"user:{number}" for number, _ in found))
    system.wait()
    assert names() == []


def test_documents_become_rows(system: System) -> None:
    host, database_url, client = system.host, system.variables[URL], system.client
    document = {"name": "Ada", "address": {"city": "Rome"}, "good": True, "tags": ["x", {"y": 1}]}
    score = 1234567890123 if database_url.startswith("sqlite") else Decimal("12345678901234567890.0123456789")
    text = json.dumps(document)[:-1] + f', "score": {score}}}'
    client.set("user:1", text)
    client.set("user:2", '{"name": "Eve", "address": {}}')
    client.execute_command("SETEX", "user:3", 100, "{}")
    client.set("user:4", "[1, 2]")
    client.set("user:5", "no JSON")
    client.append("user:2", " ")
    client.rename("user:3", "user:6")
    system.wait()
    found = rows(database_url, "SELECT id, name, city, score, good FROM users ORDER BY id")
    assert found == [
        (1, "Ada", "Rome", score, 1),
        (2, "Eve", None, None, None),
        (4, None, None, None, None),
        (6, None, None, None, None),
    ]
    ((tags, whole),) = rows(database_url, "SELECT tags, document FROM users WHERE id = 1")
    assert [each if isinstance(each, list) else json.loads(each) for each in (tags,)] == [["x", {"y": 1}]]
    assert (whole if isinstance(whole, dict) else json.loads(whole))["address"] == {"city": "Rome"}
    (letter,) = system.letters()
    assert letter["key"] == "user:5"
    assert "the key holds no JSON document" in letter["reason"]
    client.set("user:1", '{"name": "Bob"}')
    client.set("user:5", '{"name": "Joe"}')
    client.delete("user:2")
    client.getdel("user:4") if host == "module" else client.delete("user:4")
    system.wait()
    assert rows(database_url, "SELECT id, name, city FROM users ORDER BY id") == [
        (1, "Bob", None),
        (5, "Joe", None),
        (6, None, None),
    ]
    # An event of another type than the function's is nothing to it.
    run_sql(database_url, "INSERT INTO users (id, name) VALUES (7, 'mine')")
    client.hset("user:7", mapping={"name": "a hash", "more": "x"})
    client.hdel("user:7", "more")
    system.wait()
    client.pexpire("user:6", 20)
    eventually(
        lambda: [row[0] for row in rows(database_url, "SELECT id FROM users ORDER BY id")] == [1, 5, 7]
    )
    client.execute_command("SET", "user:1", "{")
    system.wait()
    client.execute_command("SET", "user:1", '{"name": "Zoe"}')
    done = gearsync("deadletters", "retry", "--all", "--redis", system.server.url)
    assert done.returncode == 0, done.stderr
    system.wait()
    assert rows(database_url, "SELECT name FROM users WHERE id = 1") == [("Zoe",)]
    assert system.letters() == []


def test_members_become_rows(system: System) -> None:
    if system.host != "module":
        pytest.skip("RedisGears has no such functions")
    members_url, client = system.variables[URL], system.client

    def tags() -> list[tuple[object, ...]]:
        return rows(members_url, "SELECT id, tag, note FROM tags ORDER BY id, tag")

    def queue() -> list[tuple[object, ...]]:
        return rows(members_url, "SELECT id, place, item FROM queue ORDER BY id, place")

    def board() -> list[tuple[object, ...]]:
        return rows(members_url, "SELECT game, id, player, points FROM board ORDER BY game, id, player")

    with system.server.client(db=1) as other:
        client.sadd("tags:1", "red", "blue")
        client.sadd("tags:2", "red")
        client.rpush("queue:1", 10, 20, 20)
        other.zadd("board:chess:1", {"ann": 1.5, "bob": -2})
        system.wait()
        assert tags() == [(1, "blue", "new"), (1, "red", "new"), (2, "red", "new")]
        assert queue() == [(1, 0, 10), (1, 1, 20), (1, 2, 20)]
        assert board() == [("chess", 1, "ann", 1.5), ("chess", 1, "bob", -2)]
        run_sql(members_url, "UPDATE tags SET note = 'kept'")
        client.sadd("tags:1", "green")
        client.srem("tags:1", "red")
        client.rename("tags:2", "tags:3")
        client.lpop("queue:1")
        client.copy("queue:1", "queue:2")
        other.zincrby("board:chess:1", 2, "bob")
        other.pexpire("board:chess:1", 25)
        eventually(lambda: not other.exists("board:chess:1"))
        system.wait()
        assert tags() == [(1, "blue", "kept"), (1, "green", "new"), (3, "red", "new")]
        assert queue() == [(1, 0, 20), (1, 1, 20), (2, 0, 20), (2, 1, 20)]
        assert {row[:3] for row in board()} == {("chess", 1, "ann"), ("chess", 1, "bob")}
        gone = [
            each for each in system.letters() if "was gone before its members were read" in each["reason"]
        ]
        assert board()[1][3] == 0 or gone, "the last state is in SQL, or a dead letter says that it is not"
        client.sadd("tags:1", "a", "b")
        client.rpush("queue:1", "no number")
        client.sadd("tags:4", "much longer than ten")
        client.delete("queue:2", "tags:3")
        system.wait()
        reasons = {str(each["key"]): each["reason"] for each in system.letters()}
        assert "the set has 4 members, and members=3 is the most" in reasons["tags:1"]
        assert "column item: the value is no whole number" in reasons["queue:1"]
        assert "column tag" in reasons["tags:4"]
        assert tags() == [(1, "blue", "kept"), (1, "green", "new")]
        assert queue() == [(1, 0, 20), (1, 1, 20)]
        client.sadd("tags:5", "A", "a")
        client.srem("tags:1", "a", "b", "blue")
        client.rpop("queue:1")
        system.wait()
        if members_url.startswith("mysql"):
            assert (
                "two members are one row"
                in {each["key"]: each["reason"] for each in system.letters()}["tags:5"]
            )
            assert tags() == [(1, "green", "new")]
        else:
            assert [row[1] for row in tags()] == ["green", "A", "a"]
        assert queue() == [(1, 0, 20), (1, 1, 20)]
