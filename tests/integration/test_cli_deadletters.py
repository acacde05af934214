"""gearsync deadletters list, show, export, retry and drop, as processes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration import deployed
from tests.integration.command import gearsync
from tests.servers import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with deployed.server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        deployed.deploy(connected)
        yield connected


def listed(server: RedisServer) -> list[dict[str, Any]]:
    done = gearsync("deadletters", "list", "--redis", server.url, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_no_letters(server: RedisServer, client: redis.Redis) -> None:
    assert listed(server) == []
    done = gearsync("deadletters", "list", "--redis", server.url)
    assert (done.returncode, done.stdout) == (0, "There are no dead letters.\n")


def test_list_as_json_holds_all_of_a_letter(server: RedisServer, client: redis.Redis) -> None:
    image = {"name": "Ada", "photo": {"base64": "/w=="}}
    letter_id = deployed.bury(client, "person:1", "invalid integer: 'x'", image)
    assert listed(server) == [
        {
            "id": letter_id,
            "key": "person:1",
            "reason": "invalid integer: 'x'",
            "op": "u",
            "image": image,
            "deployment": "people",
            "target": "reporting",
            "functions": ["persons"],
            "table": "persons",
            "column": "age",
            "at": "2026-09-21T14:13:20.123Z",
            "shard": f"127.0.0.1:{server.port}",
        }
    ]


def test_a_key_that_is_not_utf8_is_shown_as_base64(server: RedisServer, client: redis.Redis) -> None:
    deployed.bury(client, b"person:\xff", "no", {})
    assert listed(server)[0]["key"] == {"base64": "cGVyc29uOv8="}


def test_more_letters_than_one_page(server: RedisServer, client: redis.Redis) -> None:
    _, stream = deployed.lanes(client)[0]
    with client.pipeline() as pipeline:
        for number in range(2500):
            pipeline.xadd(stream, {"key": f"person:{number}", "reason": "no"})
        pipeline.execute()
    assert [each["key"] for each in listed(server)] == [f"person:{number}" for number in range(2500)]


def test_list_as_a_table_fits_80_columns(server: RedisServer, client: redis.Redis) -> None:
    letter_id = deployed.bury(client, "person:" + "1" * 50, "a reason " * 20, {})
    done = gearsync("deadletters", "list", "--redis", server.url)
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert letter_id in done.stdout
    assert "persons.age" in done.stdout
    assert "1 dead letter." in done.stdout
    # The command that it ends with can be run as it stands.
    *_, last = done.stdout.splitlines()
    assert gearsync(*last.split()[1:], "--redis", server.url).returncode == 0


def test_retry_captures_the_present_state_and_removes_the_letter(
    server: RedisServer, client: redis.Redis
) -> None:
    deployed.bury(client, "person:1", "no", {"name": "old"})
    deployed.bury(client, "person:2", "no", {"name": "old"})
    client.hset("person:1", "name", "new")
    deployed.apply_all(client)

    done = gearsync("deadletters", "retry", "--redis", server.url, "--key", "person:1")

    assert (done.returncode, done.stdout) == (0, "1 dead letter retried.\n")
    assert [each["key"] for each in listed(server)] == ["person:2"]
    [(_, fields)] = deployed.changes(client)
    assert fields[b"k"] == b"person:1"
    assert fields[b"name"] == b"new"


def test_retry_of_a_key_in_another_database(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client, "people", db=3)
    with server.client(db=3) as third:
        third.hset("person:1", "name", "in three")
    deployed.apply_all(client)
    deployed.bury(client, "person:1", "no", {})
    assert gearsync("deadletters", "retry", "--redis", server.url, "--all").returncode == 0
    [(_, fields)] = deployed.changes(client)
    assert fields[b"name"] == b"in three"


def test_retry_of_a_key_that_nothing_covers_keeps_the_letter(
    server: RedisServer, client: redis.Redis
) -> None:
    deployed.bury(client, "nobody:1", "no", {})
    done = gearsync("deadletters", "retry", "--redis", server.url, "--all")
    assert (done.returncode, done.stdout) == (1, "0 dead letters retried.\n")
    assert "no deployment captures nobody:1 any more" in done.stderr
    assert len(listed(server)) == 1


@pytest.mark.parametrize(
    ("policies", "op", "captured", "why"),
    [
        # Its end was a change of its own, which has deleted the row.
        ({}, "u", 0, ""),
        ({"on_expire": "keep"}, "u", 0, 'on_expire = "keep"'),
        # The row may be that of a later write, whose key has expired.
        ({"on_expire": "keep"}, "d", 0, 'on_expire = "keep"'),
        ({}, "x", 1, ""),
        ({"on_delete": "keep"}, "x", 0, 'on_delete = "keep"'),
    ],
)
def test_retry_of_a_key_that_is_gone(
    server: RedisServer, client: redis.Redis, policies: dict[str, str], op: str, captured: int, why: str
) -> None:
    deployed.deploy(client, policies=policies)
    deployed.apply_all(client)
    deployed.bury(client, "person:1", "no", {"name": "old"} if op == "u" else {}, op=op)
    done = gearsync("deadletters", "retry", "--redis", server.url, "--all")
    assert [fields[b"m"][:1] for _, fields in deployed.changes(client)] == [b"d"] * captured
    assert done.returncode == (1 if why else 0), done.stderr
    assert len(listed(server)) == (1 if why else 0)
    assert why in " ".join(done.stderr.split())


def test_retry_of_a_deletion_that_is_named(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client, policies={"on_expire": "keep"})
    deployed.bury(client, "person:1", "no", {}, op="d")
    assert gearsync("deadletters", "retry", "--redis", server.url, "--key", "person:1").returncode == 0
    assert [fields[b"m"][:1] for _, fields in deployed.changes(client)] == [b"d"]


def test_retry_spares_the_row_of_another_deployment(server: RedisServer, client: redis.Redis) -> None:
    """To capture the key as deleted would take it along, which a policy has kept."""
    deployed.deploy(client, "archive", policies={"on_expire": "keep"})
    deployed.bury(client, "person:1", "no", {}, op="d")
    done = gearsync("deadletters", "retry", "--redis", server.url, "--key", "person:1")
    assert (done.returncode, len(listed(server))) == (1, 1)
    assert "of persons of archive" in " ".join(done.stderr.split())
    assert deployed.changes(client, "archive") == []


def test_retry_of_what_another_deployment_captures(server: RedisServer, client: redis.Redis) -> None:
    """The letter's own captures no more: its row would not be written, and the letter be gone."""
    deployed.deploy(client, "others")
    client.hset("person:1", "name", "new")
    deployed.apply_all(client)
    deployed.bury(client, "person:1", "no", {"name": "old"})
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    done = gearsync("deadletters", "retry", "--redis", server.url, "--all")
    assert (done.returncode, done.stdout) == (1, "0 dead letters retried.\n")
    assert "no deployment captures person:1 any more" in " ".join(done.stderr.split())
    assert len(listed(server)) == 1


def test_retry_of_one_letter_brings_its_whole_transaction(server: RedisServer, client: redis.Redis) -> None:
    """As one transaction again, with what the keys hold by now."""
    deployed.deploy(client, transactions="whole")
    for number in (1, 2, 3, 4):
        client.hset(f"person:{number}", "name", "new")
    deployed.apply_all(client)
    first = deployed.bury(client, "person:1", "no", {}, transaction="5-1")
    for key, transaction in (("person:2", "5-1"), ("person:3", "5-7"), ("person:4", "")):
        deployed.bury(client, key, "no", {}, transaction=transaction)
    shown = gearsync("deadletters", "show", first, "--redis", server.url).stdout
    assert "5-1, refused whole" in shown
    done = gearsync("deadletters", "retry", "--redis", server.url, "--key", "person:2")
    assert (done.returncode, done.stdout) == (0, "2 dead letters retried.\n")
    assert [each["key"] for each in listed(server)] == ["person:3", "person:4"]
    metas = {fields[b"k"]: fields[b"m"].endswith(b"+") for _, fields in deployed.changes(client)}
    assert metas == {b"person:1": False, b"person:2": True}


def test_retry_by_id(server: RedisServer, client: redis.Redis) -> None:
    first = deployed.bury(client, "person:1", "no", {})
    second = deployed.bury(client, "person:2", "no", {})
    assert gearsync("deadletters", "retry", "--redis", server.url, "--id", first).returncode == 0
    assert [each["id"] for each in listed(server)] == [second]


def test_drop_needs_to_be_told_which_and_to_be_sure(server: RedisServer, client: redis.Redis) -> None:
    letter_id = deployed.bury(client, "person:1", "no", {})
    for arguments in ([], ["--all", "--id", letter_id]):
        wrong = gearsync("deadletters", "drop", "--redis", server.url, *arguments)
        assert wrong.returncode == 2
        assert "--all" in wrong.stderr
    refused = gearsync("deadletters", "drop", "--redis", server.url, "--all", typed="n\n")
    assert refused.returncode == 1
    assert "Delete 1 dead letter for good?" in refused.stderr
    assert len(listed(server)) == 1

    assert gearsync("deadletters", "drop", "--redis", server.url, "--all", typed="y\n").returncode == 0
    assert listed(server) == []


def test_drop_by_key_leaves_the_others(server: RedisServer, client: redis.Redis) -> None:
    for key in ("person:1", "person:2", "person:2"):
        deployed.bury(client, key, "no", {})
    done = gearsync("deadletters", "drop", "--redis", server.url, "--key", "person:2", "--yes")
    assert (done.returncode, done.stdout) == (0, "2 dead letters dropped.\n")
    assert [each["key"] for each in listed(server)] == ["person:1"]


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_an_id_or_a_key_that_is_not_there_is_said(
    server: RedisServer, client: redis.Redis, action: str
) -> None:
    for option, value in (("--id", "5-0"), ("--key", "person:5")):
        done = gearsync(
            "deadletters", action, "--redis", server.url, option, value, *["--yes"][: action == "drop"]
        )
        assert done.returncode == 1
        assert done.stderr.startswith("Error: there is no dead letter ")


def test_scope_by_deployment_and_target(server: RedisServer, client: redis.Redis) -> None:
    deployed.deploy(client, "orders", "order")
    deployed.bury(client, "person:1", "no", {})
    _, stream = deployed.lanes(client, "orders")[0]
    client.xadd(stream, {"key": "order:1", "reason": "no", "functions": '["orders"]'})
    done = gearsync("deadletters", "drop", "--redis", server.url, "--all", "--yes", "--deployment", "orders")
    assert done.stdout == "1 dead letter dropped.\n"
    assert [each["key"] for each in listed(server)] == ["person:1"]


def test_show_prints_all_of_one_letter_and_its_row(server: RedisServer, client: redis.Redis) -> None:
    image = {"name": "Ada\x1b[31m", "photo": {"base64": "/w=="}}
    letter_id = deployed.bury(client, "person:1", "invalid integer: 'x'", image)
    deployed.bury(client, "person:2", "no", {})

    done = gearsync("deadletters", "show", letter_id, "--redis", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    for text in ("person:1", "invalid integer: 'x'", "u (written)", "base64 /w==", "Ada\\x1b[31m"):
        assert text in done.stdout
    assert "\x1b" not in done.stdout
    assert "person:2" not in done.stdout

    document = json.loads(gearsync("deadletters", "show", letter_id, "--redis", server.url, "--json").stdout)
    assert (document["id"], document["change"], document["epoch"]) == (letter_id, letter_id, 1)
    assert document["version"] == 1
    columns = {"id": "1", "name": "Ada\x1b[31m"}
    assert document["rows"] == [{"function": "persons", "table": "persons", "columns": columns, "note": ""}]

    missing = gearsync("deadletters", "show", "5-0", "--redis", server.url)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no dead letter 5-0" in missing.stderr


def test_export_writes_each_letter_as_a_line(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """More than a page, with bytes that are no UTF-8, to standard output and to a new file."""
    _, stream = deployed.lanes(client)[0]
    with client.pipeline() as pipeline:
        for number in range(1500):
            pipeline.xadd(stream, {"key": b"person:%d\xff" % number, "reason": "caf\N{LATIN SMALL LETTER E}"})
        pipeline.execute()
    deployed.bury(client, "person:x", "no", {"a\udcff": "\u2028"})
    piped = gearsync("deadletters", "export", "--redis", server.url)
    assert (piped.returncode, piped.stderr) == (0, "1,501 dead letters exported.\n")
    lines = [json.loads(line) for line in piped.stdout.split("\n")[:-1]]
    assert [base64.b64decode(each["key"]["base64"]) for each in lines[:-1]] == [
        b"person:%d\xff" % number for number in range(1500)
    ]
    assert lines[-1]["image"] == {"a\udcff": "\u2028"}
    assert {each["stream"] for each in lines} == {stream}

    file = tmp_path / "letters.jsonl"
    wanted = ["deadletters", "export", "--redis", server.url, "--output", str(file), "--key", "person:x"]
    done = gearsync(*wanted)
    assert (done.returncode, done.stdout) == (0, "")
    assert [json.loads(line) for line in file.read_text("ascii").splitlines()] == lines[-1:]
    assert file.stat().st_mode & 0o077 == 0
    again = gearsync(*wanted)
    assert again.returncode == 1
    assert "is there already" in again.stderr
