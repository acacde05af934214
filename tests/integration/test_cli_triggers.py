"""``gearsync triggers`` as a user runs it, and what check and deploy say without it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.integration.deploying import gearsync, gearsync_json, write
from tests.servers import run_sql

TWO = """
from connectors import Target
from gears import WriteAround, WriteBehind

first = Target("env:TRIGGERS_DB_URL", name="first")
WriteAround(keys="person:{id}", table="persons", target=first)
WriteAround(keys="order:{id}", table="orders", target=first)
WriteBehind(keys="other:{id}", table="others", columns=["name"], target=first)
"""
TABLES = ("persons", "orders", "others")


@pytest.fixture
def file(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of functions, and its tables in a database."""
    monkeypatch.setenv("TRIGGERS_DB_URL", database_url)
    for table in TABLES:
        run_sql(database_url, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name VARCHAR(20))")
    return write(tmp_path, TWO)


def entries(url: str) -> int:
    return int(run_sql(url, "SELECT count(*) FROM gearsync_outbox")[0][0])


def test_applied_again_and_dropped(file: str, database_url: str) -> None:
    applied = gearsync_json("triggers", file, "--apply")["targets"][0]
    assert [(each["table"], each["before"], each["now"]) for each in applied["tables"]] == [
        ("persons", "missing", "current"),
        ("orders", "missing", "current"),
    ]
    run_sql(database_url, "INSERT INTO persons VALUES (1, 'x'), (2, 'y')")
    run_sql(database_url, "INSERT INTO orders VALUES (1, 'x')")
    run_sql(database_url, "INSERT INTO others VALUES (1, 'x')")
    assert entries(database_url) == 3
    again = gearsync_json("triggers", file, "--apply")["targets"][0]
    assert again["statements"] == []
    assert entries(database_url) == 3
    assert "no triggers" not in gearsync("check", file).stdout
    done = gearsync("triggers", file, "--drop")
    assert done.returncode == 0, done.stderr
    assert "dropped" in done.stdout
    run_sql(database_url, "INSERT INTO persons VALUES (3, 'x')")
    with pytest.raises(Exception, match="gearsync_outbox"):
        entries(database_url)
    assert gearsync("triggers", file, "--drop").returncode == 0


def test_what_is_printed_is_for_the_databases_own_client(
    file: str, database_url: str, request: pytest.FixtureRequest
) -> None:
    printed = gearsync("triggers", file)
    assert printed.returncode == 0, printed.stderr
    assert "persons (missing), orders (missing)" in printed.stdout
    url = make_url(database_url)
    clients = {
        "postgresql": ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(url.host), "-p", str(url.port)],
        "mysql": ["mariadb", f"-h{url.host}", f"-P{url.port}", f"-u{url.username}", str(url.database)],
        "sqlite": ["sqlite3", str(url.database)],
    }
    client = clients[url.get_backend_name()]
    if url.get_backend_name() == "postgresql":
        client += ["-U", str(url.username), str(url.database)]
    try:
        subprocess.run(client, input=printed.stdout, text=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"there is no {client[0]} here")
    applied = gearsync_json("triggers", file, "--apply")["targets"][0]
    assert [each["before"] for each in applied["tables"]] == ["current", "current"]


def test_check_says_what_is_missing_or_outdated(file: str, database_url: str) -> None:
    said = gearsync_json("check", file)
    told = [each["message"] for each in said["warnings"]]
    assert [f"gearsync triggers {file} --apply" in message for message in told] == [True, True]
    gearsync("triggers", file, "--apply")
    assert gearsync_json("check", file)["warnings"] == []
    # A table that is made anew has lost its triggers; those of another one are not all there any more.
    run_sql(database_url, "DROP TABLE orders")
    run_sql(database_url, "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    told = [each["message"] for each in gearsync_json("check", file)["warnings"]]
    assert len(told) == 1 and "orders has no triggers" in told[0]
    [name] = [each for each in _triggers(database_url) if "delete" in each or "rows" in each]
    run_sql(database_url, _drop(database_url, name))
    told = [each["message"] for each in gearsync_json("check", file)["warnings"]]
    assert len(told) == 2 and "triggers of persons are not" in "".join(told)


def _triggers(url: str) -> list[str]:
    queries = {
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    }
    return [str(row[0]) for row in run_sql(url, queries[make_url(url).get_backend_name()])]


def _drop(url: str, name: str) -> str:
    on = " ON persons" if make_url(url).get_backend_name() == "postgresql" else ""
    return f"DROP TRIGGER {name}{on}"


def test_only_one_target_and_wrong_usage(file: str) -> None:
    assert gearsync("triggers", file, "--apply", "--drop").returncode == 2
    wrong = gearsync("triggers", file, "--target", "second")
    assert wrong.returncode == 1
    assert "those that do are first" in wrong.stderr
    assert gearsync("triggers", file, "--target", "first").returncode == 0


def test_a_database_that_is_away(tmp_path: Path) -> None:
    text = TWO.replace("env:TRIGGERS_DB_URL", "postgresql://nobody@127.0.0.1:1/none")
    done = gearsync("triggers", write(tmp_path, text), "--apply")
    assert done.returncode == 1
    assert "Error: target first:" in done.stderr


def test_without_such_functions_there_is_nothing_to_do(tmp_path: Path) -> None:
    text = "\n".join(line for line in TWO.splitlines() if "WriteAround(" not in line)
    done = gearsync("triggers", write(tmp_path, text))
    assert done.returncode == 0
    assert "no table needs triggers" in done.stdout
