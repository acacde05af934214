"""Drivers and requirements on RedisGears whose Python lacks them, with a package index and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.hosts.bundles import Bundle
from deploy.rollout import bundle_file
from tests.bare_python import NOWHERE, bare_python, copy_python, has_virtualenv
from tests.cluster import Cluster
from tests.integration.deploying import FUNCTIONS, PERSONS, gearsync, gearsync_json, rows, write
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql

skip_without_redisgears()

NO_INDEX = "no package index: let pip of RedisGears' Python reach one"
SQLALCHEMY = "SQLAlchemy==2.0.58"
PSYCOPG = "psycopg[binary]==3.1.20"
PYMYSQL = "PyMySQL==1.1.1"
LONGEST_WAIT = 6.0
"""Seconds that a client may wait at most while something is installed, on a machine that does much else;
RedisGears' own installation takes three times as long.
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python without drivers, for one test."""
    return bare_python(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all drivers, from a RedisGears that reaches an index and has no deployment."""
    folder = tmp_path_factory.mktemp("exported")
    file = folder / "drivers.zip"
    with RedisGears(python=bare_python(folder)) as server:
        run = gearsync("requirements", "export", str(file), "--redis", server.url, timeout=300)
        if run.returncode and "can't get" in run.stderr:
            pytest.skip(NO_INDEX)
        assert run.returncode == 0, run.stderr
        # Nothing is installed, and what pip has fetched is gone.
        assert known(server) == []
    return file


def known(server: RedisGears) -> list[str]:
    """Return the requirements that RedisGears on a server knows."""
    with server.client() as client:
        reply: Any = client.execute_command("RG.PYDUMPREQS")
    return sorted(each[3].decode() for each in reply)


def sessions(server: RedisGears) -> list[str]:
    with server.client() as client:
        reply: Any = client.execute_command("RG.PYDUMPSESSIONS")
    return [each[1].decode() for each in reply]


def deploy(server: RedisGears, folder: Path, text: str = FUNCTIONS) -> Any:
    run = gearsync("deploy", write(folder, text), "--yes", "--redis", server.url, timeout=300)
    assert run.returncode == 0, run.stderr
    return run


def bring(server: RedisGears, file: Path) -> Any:
    return gearsync_json("requirements", "import", str(file), "--redis", server.url)


def arrives(server: RedisGears, url: str, number: int) -> None:
    """See that a write comes to SQL."""
    with server.client() as client:
        client.hset(f"person:{number}", mapping={"first_name": "Ada"})
    run = gearsync("wait", "--redis", server.url, "--timeout", "60")
    assert run.returncode == 0, run.stderr
    assert rows(url, f"SELECT first FROM persons WHERE person_id = '{number}'") == [("Ada",)]


@contextmanager
def served_meanwhile(server: RedisGears) -> Iterator[None]:
    """Fail when a client of Redis waits too long."""
    longest = 0.0
    is_over = threading.Event()

    def look() -> None:
        nonlocal longest
        with server.client(socket_timeout=100) as client:
            while not is_over.wait(0.02):
                start = time.monotonic()
                client.ping()
                longest = max(longest, time.monotonic() - start)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert longest < LONGEST_WAIT


def test_a_deploy_brings_the_drivers_while_redis_serves(
    python: Path, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(postgres_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", postgres_url)
    with RedisGears("--appendonly", "yes", python=python) as server:
        with served_meanwhile(server):
            run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", server.url, timeout=300)
        if "can't get" in run.stderr:
            pytest.skip(NO_INDEX)
        assert run.returncode == 0, run.stderr
        assert known(server) == [SQLALCHEMY, PSYCOPG]
        arrives(server, postgres_url, 1)
        file = tmp_path / "drivers.zip"
        run = gearsync("requirements", "export", str(file), "--redis", server.url)
        assert run.returncode == 0, run.stderr
        found = bundle_file.read(file)
        assert [each.requirement for each in found] == [SQLALCHEMY, PSYCOPG]
        assert any(name.startswith("psycopg_binary-3.1.20-cp37-") for name in found[1].wheels)


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_without_an_index_a_deploy_works_with_what_was_imported(
    kind: str,
    exported: Path,
    python: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    run_sql(url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", url)
    with RedisGears(python=python, environment=NOWHERE) as server:
        file = write(tmp_path, FUNCTIONS)
        run = gearsync("deploy", file, "--redis", server.url, timeout=300)
        assert run.returncode == 1
        assert f"pip on the shard can't get {SQLALCHEMY}" in run.stderr
        assert "gearsync requirements import" in run.stderr
        assert (known(server), sessions(server)) == ([], [])
        with served_meanwhile(server):
            brought = bring(server, exported)
        assert [each["requirement"] for each in brought] == [SQLALCHEMY, PSYCOPG, PYMYSQL]
        assert known(server) == [PYMYSQL, SQLALCHEMY, PSYCOPG]
        deploy(server, tmp_path)
        arrives(server, url, 1)


def test_what_is_for_another_system_is_refused_before_a_shard_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "foreign.zip"
    foreign = "greenlet-3.1.1-cp37-cp37m-macosx_11_0_arm64.whl"
    bundle_file.write(file, [Bundle("greenlet==3.1.1", {foreign: b"wheel"})])
    with RedisGears(python=copy_python(tmp_path)) as server:
        run = gearsync("requirements", "import", str(file), "--redis", server.url)
        assert run.returncode == 1
        assert f"{foreign} is not for the processor and system of every shard" in run.stderr
        assert known(server) == []


def test_an_air_gapped_cluster_deploys_with_what_was_imported(
    exported: Path, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [sqlalchemy] = [each for each in bundle_file.read(exported) if each.requirement == SQLALCHEMY]
    file = tmp_path / "sqlalchemy.zip"
    bundle_file.write(file, [sqlalchemy])
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    numbers = iter("123")

    def make(*options: str) -> RedisGears:
        options = (*options, "--cluster-node-timeout", "15000")
        return RedisGears(*options, python=bare_python(tmp_path / next(numbers)), environment=NOWHERE)

    with Cluster(make) as cluster:
        gearsync_json("requirements", "import", str(file), "--redis", cluster.url)
        run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster.url, timeout=300)
        assert run.returncode == 0, run.stderr
        for node in cluster.nodes:
            assert isinstance(node, RedisGears)
            assert known(node) == [SQLALCHEMY]


@pytest.mark.timeout(900)
def test_in_a_virtual_environment_the_drivers_outlive_upgrades_and_restarts(
    exported: Path, python: Path, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_virtualenv(python):
        pytest.skip("RedisGears' Python has no virtualenv: install it there")
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    options = ("--appendonly", "yes")
    with RedisGears(*options, python=python, environment=NOWHERE, settings=("CreateVenv", "1")) as server:
        bring(server, exported)
        deploy(server, tmp_path)
        arrives(server, sqlite_url, 1)
        # The older version's session ends, and lets go of what no other session names.
        upgraded = FUNCTIONS.replace('"last_name": "last"', '"age": "age"')
        deploy(server, tmp_path, upgraded)
        arrives(server, sqlite_url, 2)
        with server.client() as client:
            [session] = client.execute_command("RG.PYDUMPSESSIONS")
        assert session[session.index(b"requirements") + 1] == [SQLALCHEMY.encode()]
        server.kill9()
        server.start()
        assert SQLALCHEMY in known(server)
        arrives(server, sqlite_url, 3)


def test_a_requirement_that_does_not_exist_is_one_sentence_and_leaves_nothing(
    python: Path, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    text = FUNCTIONS.replace('name="people"', 'name="people", requirements=["gearsync-nobody-has-this==7"]')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with RedisGears(python=python, environment={"TMPDIR": str(scratch)}) as server:
        run = gearsync("deploy", write(tmp_path, text), "--redis", server.url, timeout=300)
        assert run.returncode == 1
        [error] = [each for each in run.stderr.splitlines() if "Error" in each]
        assert run.stderr.endswith(error + "\n")
        assert "nothing was deployed" in error
        assert "pip on the shard can't get gearsync-nobody-has-this==7: No matching" in error
        assert (known(server), sessions(server), list(scratch.iterdir())) == ([], [], [])
        with server.client() as client:
            assert not client.keys("gearsync:*")


def test_every_shard_of_a_cluster_gets_what_only_some_lack(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(sqlite_url, PERSONS)
    monkeypatch.setenv("REPORTING_DB_URL", sqlite_url)
    folders = iter([tmp_path / "one", tmp_path / "two", tmp_path / "three"])

    def make(*options: str) -> RedisGears:
        folder = next(folders)
        # The first has the drivers: it is the one that the URL names.
        python = copy_python(folder) if folder.name == "one" else bare_python(folder)
        return RedisGears(*options, "--cluster-node-timeout", "15000", python=python)

    with Cluster(make) as cluster:
        run = gearsync("deploy", write(tmp_path, FUNCTIONS), "--redis", cluster.url, timeout=400)
        if "can't get" in run.stderr:
            pytest.skip(NO_INDEX)
        assert run.returncode == 0, run.stderr
        assert "to 3 shards" in run.stdout
        for node in cluster.nodes:
            assert isinstance(node, RedisGears)
            assert known(node) == [SQLALCHEMY]
        owners = {cluster.owner(f"person:{number}") for number in range(30)}
        assert owners == {0, 1, 2}
        with cluster.client() as client:
            for number in range(30):
                client.hset(f"person:{number}", mapping={"first_name": f"n{number}"})
        run = gearsync("wait", "--redis", cluster.url, "--timeout", "90")
        assert run.returncode == 0, run.stderr
        assert rows(sqlite_url, "SELECT COUNT(*) FROM persons") == [(30,)]
