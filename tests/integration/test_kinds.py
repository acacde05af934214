"""Keys that are no hashes, all the way to rows."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests import redisgears as gears12
from tests.integration.deploying import eventually, gearsync, rows
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
USERS = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(20), city VARCHAR(20) DEFAULT 'none', "
    "score NUMERIC(30, 10), good BOOLEAN, tags JSON, document JSON)"
)


@pytest.fixture(params=["module sqlite", "module postgres", "module mariadb", "redisgears sqlite"])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What the functions run on, and the URL of a fresh database."""
    host, database = request.param.split()
    if host == "redisgears" and gears12.home() is None:
        pytest.skip(gears12.ABSENT)
    return host, request.getfixturevalue(f"{database}_url")


def test_documents_become_rows(place: tuple[str, str], tmp_path: Path) -> None:
    host, database_url = place
    run_sql(database_url, USERS)
    system = System(tmp_path, DOCUMENTS, {"FIRST_DB_URL": database_url}, host=host)
    document = {"name": "Ada", "address": {"city": "Rome"}, "good": True, "tags": ["x", {"y": 1}]}
    score = 1234567890123 if database_url.startswith("sqlite") else Decimal("12345678901234567890.0123456789")
    text = json.dumps(document)[:-1] + f', "score": {score}}}'
    with system as client:
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
        client.pexpire("user:6", 20)
        eventually(
            lambda: [row[0] for row in rows(database_url, "SELECT id FROM users ORDER BY id")] == [1, 5]
        )
        client.execute_command("SET", "user:1", "{")
        system.wait()
        client.execute_command("SET", "user:1", '{"name": "Zoe"}')
        done = gearsync("deadletters", "retry", "--all", "--redis", system.server.url)
        assert done.returncode == 0, done.stderr
        system.wait()
        assert rows(database_url, "SELECT name FROM users WHERE id = 1") == [("Zoe",)]
        assert system.letters() == []
