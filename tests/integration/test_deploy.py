"""``gearsync check`` and ``gearsync deploy`` against a real server and SQLite, as processes."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.deploying import (
    FUNCTIONS,
    PERSONS,
    deployments,
    eventually,
    gearsync,
    gearsync_json,
    redis_with_module,
    rows,
    worker_environment,
    write,
)
from tests.servers import RedisServer, run_sql


@pytest.fixture
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    run_sql(sqlite_url, PERSONS)
    for name, value in worker_environment(sqlite_url).items():
        monkeypatch.setenv(name, value)
    return sqlite_url


@pytest.fixture
def server(database: str) -> Iterator[RedisServer]:
    with redis_with_module() as running:
        yield running


def test_deploy_brings_writes_to_the_table_and_prints_what_runs_where(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", server.url)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "Deployed people version 1 to 1 shard"
    for words in (
        "persons",
        "person:{person_id}",
        "reporting",
        "first, last",
        f"127.0.0.1:{server.port}",
        "running",
    ):
        assert words in run.stdout
    assert "Deploying people version 1" in run.stderr
    with server.client() as client:
        client.hset("person:1", mapping={"first_name": "Ada", "last_name": "Lovelace"})
    eventually(
        lambda: rows(database, "SELECT person_id, first, last FROM persons") == [("1", "Ada", "Lovelace")]
    )


def test_the_same_again_changes_nothing_and_says_so(server: RedisServer, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTIONS)
    assert gearsync("deploy", path, "--redis", server.url).returncode == 0
    again = gearsync("deploy", path, "--redis", server.url)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("people version 1 is deployed already; nothing was changed")
    assert deployments(server) == {"people": (1, "active")}
    changed = write(tmp_path, FUNCTIONS.replace('name="people"', 'name="people", batch=7'))
    document = gearsync_json("deploy", changed, "--redis", server.url)
    assert (document["version"], document["changed"]) == (2, True)
    assert [shard["worker"] for shard in document["shards"]] == ["running"]


def test_a_plan_changes_nothing_and_what_is_destructive_needs_consent(
    server: RedisServer, tmp_path: Path
) -> None:
    path = write(tmp_path, FUNCTIONS)
    planned = gearsync("deploy", path, "--redis", server.url, "--plan")
    assert planned.returncode == 3 and "people is not deployed yet" in planned.stdout
    assert deployments(server) == {}
    assert gearsync("deploy", path, "--redis", server.url).returncode == 0
    assert gearsync("deploy", path, "--redis", server.url, "--plan").returncode == 0
    fewer = write(tmp_path, FUNCTIONS.replace(', "last_name": "last"', ""))
    document = gearsync_json("deploy", fewer, "--redis", server.url, "--plan", code=3)
    assert document["destructive"] and document["differences"][0]["what"] == "field last_name"
    refused = gearsync("deploy", fewer, "--redis", server.url)
    assert refused.returncode == 1 and "give --yes" in refused.stderr
    assert deployments(server) == {"people": (1, "active")}
    assert gearsync("deploy", fewer, "--redis", server.url, "--yes").returncode == 0
    assert deployments(server) == {"people": (2, "active")}


def test_nothing_is_sent_when_anything_is_wrong(server: RedisServer, tmp_path: Path) -> None:
    wrong = FUNCTIONS.replace('"first"', '"frist"').replace(
        'name="people"', 'name="people", requirements=["a b"]'
    )
    for command in ("check", "deploy"):
        run = gearsync(command, write(tmp_path, wrong), "--redis", server.url)
        assert run.returncode == 1
        assert "did you mean first?" in " ".join((run.stdout + run.stderr).split())
        assert "'a b' is not what pip takes" in " ".join((run.stdout + run.stderr).split())
        assert "Error: " in run.stderr and "2 mistakes" in run.stderr
        assert "Traceback" not in run.stderr
    assert deployments(server) == {}


def test_check_without_redis(database: str, tmp_path: Path) -> None:
    run = gearsync("check", write(tmp_path, FUNCTIONS))
    assert run.returncode == 0, run.stderr
    assert "No mistake was found." in run.stdout
    assert "Redis was not asked (no --redis)." in run.stdout


def test_check_for_programs(database: str, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTIONS.replace('"first"', '"frist"'))
    document = gearsync_json("check", path, "--name", "other", code=1)
    assert (document["ok"], document["deployment"]) == (False, "other")
    [mistake] = document["mistakes"]
    assert mistake["place"].endswith("functions.py:8")
    assert (mistake["function"], mistake["option"]) == ("persons", "columns")


def test_a_file_of_wrong_python_is_a_sentence(tmp_path: Path) -> None:
    run = gearsync("check", write(tmp_path, "x = (\n"))
    assert run.returncode == 1
    assert "this is not Python" in " ".join(run.stdout.split())
    assert "Traceback" not in run.stderr + run.stdout


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    assert gearsync("deploy", str(tmp_path / "nothing.py")).returncode == 2
    assert gearsync("deploy").returncode == 2


def test_a_column_of_another_deployment_is_refused(server: RedisServer, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTIONS)
    assert gearsync("deploy", path, "--redis", server.url).returncode == 0
    run = gearsync("deploy", path, "--redis", server.url, "--name", "others")
    assert run.returncode == 1
    assert "the deployment people (function persons) already writes the columns first, last" in run.stderr
    assert list(deployments(server)) == ["people"]


def test_eviction_of_streams_must_be_accepted(server: RedisServer, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTIONS)
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        refused = gearsync("deploy", path, "--redis", server.url)
        assert refused.returncode == 1
        assert "maxmemory-policy is allkeys-lru" in refused.stderr and "--accept-eviction" in refused.stderr
        assert deployments(server) == {}
        assert gearsync("deploy", path, "--redis", server.url, "--accept-eviction").returncode == 0
        client.config_set("maxmemory-policy", "volatile-lru")
        assert gearsync_json("check", path, "--redis", server.url)["ok"]


def test_appendonly_off_is_a_warning(server: RedisServer, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTIONS)
    assert "appendonly is off" in str(gearsync_json("check", path, "--redis", server.url)["warnings"])
    with server.client() as client:
        client.config_set("appendonly", "yes")
    assert gearsync_json("check", path, "--redis", server.url)["warnings"] == []


def test_a_server_without_the_module_is_told_how_to_load_it(database: str, tmp_path: Path) -> None:
    with RedisServer() as bare:
        run = gearsync("check", write(tmp_path, FUNCTIONS), "--redis", bare.url)
    assert run.returncode == 1
    assert "has neither the gearsync module loaded nor RedisGears" in " ".join(run.stdout.split())
    assert "--loadmodule" in run.stdout


def test_no_url_of_a_database_reaches_redis(server: RedisServer, database: str, tmp_path: Path) -> None:
    assert gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", server.url).returncode == 0
    with server.client() as client:
        dump = b"".join(client.dump(key) or b"" for key in client.keys("gearsync:*"))
        registry = str(client.hgetall("gearsync:{0}:registry"))
    assert "env:REPORTING_DB_URL" in registry
    assert database.encode() not in dump and database not in registry


# -- Workers that do not run -------------------------------------------------------------------------------


def test_the_error_of_a_worker_that_fails_is_printed(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    """The transform is found here, but what it imports at the top exists only where deploy runs."""
    only_here = (
        "import os\nif os.environ.get('GEARSYNC_WORKER_FAILS') is None:\n    import no_such_module_there\n"
    )
    text = only_here + FUNCTIONS.replace(
        "target=reporting", "target=reporting, transform=lambda change: change"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEARSYNC_WORKER_FAILS", "no")
        run = gearsync("deploy", write(tmp_path, text), "--redis", server.url)
    assert run.returncode == 1
    assert "the worker failed" in run.stderr and "no_such_module_there" in run.stderr
    assert "its changes are captured, and wait" in run.stderr
    assert deployments(server) == {"people": (1, "active")}
    with server.client() as client:
        client.hset("person:1", mapping={"first_name": "Ada", "last_name": "Lovelace"})
    healed = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", server.url)
    assert healed.returncode == 0, healed.stderr
    eventually(lambda: rows(database, "SELECT first FROM persons") == [("Ada",)])


def test_a_database_that_is_down_is_waited_for_and_named(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORTING_DB_URL", "postgresql://gearsync:hunter2@127.0.0.1:1/x")
    with redis_with_module() as server:
        run = gearsync(
            "deploy", write(tmp_path, FUNCTIONS), "--redis", server.url, "--offline", "--timeout", "8"
        )
        assert run.returncode == 1
        assert "after 8 s" in run.stderr and "the worker is waiting" in run.stderr
        assert "the worker goes on trying" in run.stderr
        assert "hunter2" not in run.stderr + run.stdout
        assert deployments(server) == {"people": (1, "active")}


def test_a_worker_that_runs_elsewhere_is_told_how_to_start(server: RedisServer, tmp_path: Path) -> None:
    text = FUNCTIONS.replace('name="people"', 'name="people", worker="external"')
    run = gearsync("deploy", write(tmp_path, text), "--redis", server.url)
    assert run.returncode == 0, run.stderr
    assert "external" in run.stdout
    assert "gearsync worker --deployment people --redis URL" in run.stderr


# -- Wheels ------------------------------------------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str, source: str) -> Path:
    """Make the smallest wheel that pip installs: one module."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


WITH_WHEEL = FUNCTIONS.replace('name="people"', 'name="people", requirements=["gearsync_loud>=1"]').replace(
    "target=reporting,", "target=reporting,\n    transform=louder,"
)


def louder_functions(text: str) -> str:
    transform = """
def louder(change):
    import gearsync_loud
    change.fields["first_name"] = gearsync_loud.loud(change.fields["first_name"])
    return change

"""
    return transform + text


def wheels_of(server: RedisServer) -> dict[str, bytes]:
    with server.client() as client:
        stored: Any = client.hgetall("gearsync:{0}:wheels:people")
    return {name.decode(): content for name, content in stored.items()}


def field_of(wheel: Path) -> str:
    """Return where a wheel is in that hash."""
    return f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}/{wheel.name}"


def test_wheels_are_uploaded_installed_and_replaced(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    one = make_wheel(folder, "gearsync_loud", "1.0", "def loud(text):\n    return text.upper()\n")
    path = write(tmp_path, louder_functions(WITH_WHEEL))
    run = gearsync("deploy", path, "--redis", server.url, "--wheels", str(folder))
    assert run.returncode == 0, run.stderr
    former = {field_of(one): one.read_bytes()}
    assert wheels_of(server) == former
    with server.client() as client:
        client.hset("person:1", "first_name", "ada")
        eventually(lambda: rows(database, "SELECT first FROM persons") == [("ADA",)])
        one.unlink()
        two = make_wheel(folder, "gearsync_loud", "1.1", "def loud(text):\n    return text + '!'\n")
        assert gearsync("deploy", path, "--redis", server.url, "--wheels", str(folder)).returncode == 0
        # The old one's stays for a rollback, and for what waits under its version.
        assert wheels_of(server) == {**former, field_of(two): two.read_bytes()}
        client.hset("person:1", "first_name", "eve")
        eventually(lambda: rows(database, "SELECT first FROM persons") == [("eve!",)])


def test_a_wheel_of_the_same_name_but_other_content_is_a_new_version(
    server: RedisServer, database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    make_wheel(folder, "gearsync_loud", "1.0", "def loud(text):\n    return text.upper()\n")
    path = write(tmp_path, louder_functions(WITH_WHEEL))
    arguments = ("deploy", path, "--redis", server.url, "--wheels", str(folder))
    assert gearsync_json(*arguments)["version"] == 1
    assert gearsync_json(*arguments)["changed"] is False
    make_wheel(folder, "gearsync_loud", "1.0", "def loud(text):\n    return text + '?'\n")
    assert gearsync_json(*arguments)["version"] == 2
    with server.client() as client:
        client.hset("person:1", "first_name", "eve")
        eventually(lambda: rows(database, "SELECT first FROM persons") == [("eve?",)])
        # What a version had under that name is still there for it.
        assert gearsync("rollback", "people", "--redis", server.url).returncode == 0
        client.hset("person:1", "first_name", "ada")
        eventually(lambda: rows(database, "SELECT first FROM persons") == [("ADA",)])
