"""What goes wrong on RedisGears is said in a sentence, and can be put right by deploy and undeploy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bare_python import NOWHERE, copy_python
from tests.integration.deploying import FUNCTIONS, PERSONS, eventually, gearsync, gearsync_json, rows, write
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import free_port, run_sql

skip_without_redisgears()

UNTIL_IT_SAYS = "15"
"""Seconds in which a process starts and meets its error, also on a busy machine; deploy waits them out."""
TWO = (
    FUNCTIONS
    + """
WriteBehind(
    keys="human:{person_id}", table="persons", columns={"city": "city"}, name="humans", target=reporting
)
"""
)
RAISES_THERE = """
import sys

if sys.version_info < (3, 8):
    raise RuntimeError("no such thing there")


def changed(change):
    return change

"""
FAILS_TO_CAPTURE = """
GB("KeysReader").map(lambda record: 1 / 0).register(prefix="person:*", mode="sync")
GB("CommandReader").register(trigger="gearsync-people", mode="sync")
"""


@pytest.fixture
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    return sqlite_url


@pytest.fixture
def server(database: str) -> Iterator[RedisGears]:
    with RedisGears() as server:
        yield server


def run(server: RedisGears, *arguments: str) -> subprocess.CompletedProcess[str]:
    return gearsync(*arguments, "--redis", server.url)


def deploy(server: RedisGears, file: str) -> None:
    done = run(server, "deploy", file)
    assert done.returncode == 0, done.stderr


def attention(server: RedisGears) -> list[str]:
    """Return what gearsync status says needs attention, without where."""
    found = gearsync_json("status", "--redis", server.url)["attention"]
    return [str(each).partition(": ")[2] for each in found]


def state(server: RedisGears) -> str:
    [shard] = gearsync_json("status", "--redis", server.url)["shards"]
    [deployment] = shard["deployments"]
    return str(deployment["state"])


def take_away(server: RedisGears, reader: str, place: str = "") -> None:
    """Unregister one reader by hand."""
    found = [each for each in server.registrations() if each["reader"] == reader]
    found = [each for each in found if place in str(each["RegistrationData"]["args"])]
    with server.client() as client:
        client.execute_command("RG.UNREGISTER", found[0]["id"])


def write_person(server: RedisGears, key: str = "person:1") -> None:
    with server.client() as client:
        client.hset(key, mapping={"first_name": "Ada", "city": "London"})


def test_a_database_that_is_not_reached(
    server: RedisGears, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"postgresql://ada:secret@127.0.0.1:{free_port()}/db"
    file = write(tmp_path, FUNCTIONS.replace("env:REPORTING_DB_URL", f"file:{tmp_path / 'url'}"))
    (tmp_path / "url").write_text(secret)
    done = run(server, "deploy", file, "--offline", "--timeout", UNTIL_IT_SAYS)
    assert done.returncode == 1
    assert "the worker is waiting (reporting: " in done.stderr
    assert "people is deployed: its changes are captured, and wait" in done.stderr
    write_person(server)
    [waits] = attention(server)
    assert waits.startswith("target reporting waits: ")
    assert "refused" in waits
    done = run(server, "undeploy", "people", "--timeout", "1")
    assert done.returncode == 1
    assert "people is still draining" in done.stderr
    assert "1 change to apply (worker waiting, reporting: " in done.stderr
    done = run(server, "undeploy", "people", "--discard")
    assert done.returncode == 0, done.stderr
    assert "1 waiting change dropped" in done.stdout
    assert "secret" not in server.log_text() + done.stderr + waits


def test_a_file_that_raises_inside(server: RedisGears, tmp_path: Path) -> None:
    text = FUNCTIONS.replace("    target=reporting,\n", "    target=reporting,\n    transform=changed,\n")
    file = write(tmp_path, RAISES_THERE + text)
    done = run(server, "deploy", file, "--timeout", UNTIL_IT_SAYS)
    assert done.returncode == 1
    assert "RuntimeError: no such thing there (functions.py, line 5)" in done.stderr
    [waits] = attention(server)
    assert "RuntimeError: no such thing there (functions.py, line 5)" in waits
    # What was written meanwhile comes to SQL when the file is put right.
    write_person(server)
    deploy(server, write(tmp_path, FUNCTIONS))
    assert run(server, "wait", "--timeout", "30").returncode == 0
    assert attention(server) == []


def test_events_that_redisgears_could_not_bring_to_capture(server: RedisGears) -> None:
    server.run(
        FAILS_TO_CAPTURE, "ID", "gearsync-people", "DESCRIPTION", "gearsync: deployment people, version 7"
    )
    write_person(server)
    eventually(lambda: any("could not be captured" in each for each in attention(server)))
    unreadable, failed = attention(server)
    assert unreadable.startswith("failed: what runs there can't be read: ")
    assert failed == "1 change could not be captured; the last: ZeroDivisionError: division by zero."


@pytest.mark.parametrize(
    ("reader", "sentence"),
    [
        ("StreamReader", "nothing is brought to reporting: its StreamReader is gone"),
        ("CommandReader", "nobody answers for it: its CommandReader is gone"),
    ],
)
def test_a_reader_that_somebody_unregistered(
    reader: str, sentence: str, server: RedisGears, database: str, tmp_path: Path
) -> None:
    file = write(tmp_path, FUNCTIONS)
    deploy(server, file)
    take_away(server, reader)
    assert attention(server) == [f"failed: {sentence}; deploy it again."]
    assert state(server) == "damaged"
    write_person(server)
    # The same file again mends it, and what was captured comes to SQL.
    deploy(server, file)
    assert attention(server) == []
    assert state(server) == "active"
    assert run(server, "wait", "--timeout", "30").returncode == 0
    assert rows(database, "SELECT first FROM persons") == [("Ada",)]


def test_one_of_two_captures_that_somebody_unregistered(server: RedisGears, tmp_path: Path) -> None:
    file = write(tmp_path, TWO)
    deploy(server, file)
    take_away(server, "KeysReader", "human:*")
    [problem] = attention(server)
    assert "writes to keys that begin with human: are not captured: their KeysReader is gone" in problem
    deploy(server, file)
    assert attention(server) == []
    readers = [each["reader"] for each in server.registrations()]
    assert sorted(readers) == ["CommandReader", "KeysReader", "KeysReader", "StreamReader"]


@pytest.mark.parametrize("reader", ["KeysReader", "StreamReader", "CommandReader"])
def test_what_is_half_gone_can_be_undeployed(reader: str, server: RedisGears, tmp_path: Path) -> None:
    deploy(server, write(tmp_path, FUNCTIONS))
    take_away(server, reader)
    if reader == "StreamReader":
        write_person(server)
        done = run(server, "undeploy", "people", "--timeout", "1")
        assert done.returncode == 1
        assert "worker failed, nothing is brought to reporting: its StreamReader is gone" in done.stderr
    done = run(server, "undeploy", "people", "--discard")
    assert done.returncode == 0, done.stderr
    assert server.registrations() == []
    with server.client() as client:
        assert client.keys("gearsync:lane:*") == []


def test_a_python_that_has_lost_its_drivers(database: str, tmp_path: Path) -> None:
    python = copy_python(tmp_path)
    with RedisGears("--appendonly", "yes", python=python, environment=NOWHERE) as server:
        file = write(tmp_path, FUNCTIONS)
        deploy(server, file)
        server.kill9()
        pip = [str(python / "bin" / "python3"), "-m", "pip", "uninstall", "--quiet", "--yes", "sqlalchemy"]
        subprocess.run(pip, check=True, capture_output=True)
        server.start()
        [problem] = attention(server)
        assert problem.startswith("failed: it does not answer inside RedisGears: ")
        assert "sqlalchemy" in problem
        done = run(server, "deploy", file)
        assert done.returncode == 1
        assert "pip on the shard can't get SQLAlchemy==2.0.58" in done.stderr
        done = run(server, "undeploy", "people", "--discard")
        assert done.returncode == 0, done.stderr
        assert server.registrations() == []
