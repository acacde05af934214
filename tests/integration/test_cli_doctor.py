"""gearsync doctor: each finding on a real server that is set so that it appears, and none on a good one."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
import redis
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from connectors import Target
from deploy.cli import group
from deploy.doctor import shards, targets
from deploy.doctor.findings import Diagnosis
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.patterns import Behind, Pattern, Reading, Through
from gears.declaring.template import Template
from tests.integration import deployed
from tests.integration.command import until
from tests.integration.module.driving import server_version
from tests.servers import RedisServer, run_sql

BEHIND = Behind()
GOOD = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "8gb")
#: What is said of a good server: it has no replica, and Redis 6.2 writes a change and its write as two units.
NOTES = {("note", "replicas")} | ({("note", "aof-units")} if server_version() < (7,) else set())


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with deployed.server(*GOOD) as running:
        with running.client() as client:
            deployed.deploy(client)
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        deployed.beat(connected)
        yield connected


def of_redis(url: str) -> set[tuple[str, str]]:
    """Return the severity and the name of each finding about Redis."""
    diagnosis = Diagnosis()
    shards.check(url, diagnosis)
    return {(each.severity, each.check) for each in diagnosis.findings}


def of_database(url: str, table: str = "persons", pattern: Pattern = BEHIND) -> dict[tuple[str, str], str]:
    """Return the severity and the name of each finding about a database, with what it says."""
    mapping = Mapping(Template("person:{id}"), table, {"name": "name"})
    # A target holds no password.
    reporting = Target("env:DOCTORED_DB_URL", name="reporting")
    function = Function("persons", mapping, "reporting", pattern=pattern)
    deployment = Deployment("people", functions=[function], targets={"reporting": reporting})
    diagnosis = Diagnosis()
    with mock.patch.dict(os.environ, {"DOCTORED_DB_URL": url} if url else {}):
        targets.check(deployment, "functions.py", diagnosis)
    return {(each.severity, each.check): each.what for each in diagnosis.findings}


# -- Redis -------------------------------------------------------------------------------------------------


def test_a_good_server_has_nothing_but_notes(server: RedisServer, client: redis.Redis) -> None:
    assert of_redis(server.url) == NOTES


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"appendfsync": "no"}, {("warning", "appendfsync")}),
        ({"appendfsync": "everysec"}, {("note", "appendfsync")}),
        ({"no-appendfsync-on-rewrite": "yes"}, {("warning", "no-appendfsync-on-rewrite")}),
        ({"appendonly": "no", "save": ""}, {("error", "appendonly")}),
        ({"appendonly": "no", "save": "60 1"}, {("warning", "appendonly")}),
        (
            {"appendonly": "no", "save": "60 1", "stop-writes-on-bgsave-error": "no"},
            {("warning", "appendonly"), ("warning", "stop-writes-on-bgsave-error")},
        ),
        ({"maxmemory-policy": "allkeys-lru"}, {("error", "maxmemory-policy")}),
        (
            {"maxmemory-policy": "allkeys-lru", "maxmemory": "0"},
            {("warning", "maxmemory-policy"), ("note", "memory-bound")},
        ),
        ({"maxmemory-policy": "volatile-lru"}, {("note", "maxmemory-policy")}),
        ({"protected-mode": "no", "bind": "0.0.0.0"}, {("warning", "default-user")}),
    ],
)
def test_settings_of_redis(
    server: RedisServer,
    client: redis.Redis,
    settings: dict[str, str],
    expected: set[tuple[str, str]],
) -> None:
    before = {name: str(client.config_get(name)[name]) for name in settings}
    try:
        for name, value in settings.items():
            client.config_set(name, value)
        assert of_redis(server.url) == expected | NOTES
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_memory_that_is_nearly_full(server: RedisServer, client: redis.Redis) -> None:
    used = int(client.info("memory")["used_memory"])
    try:
        client.config_set("maxmemory", int(used * 1.05))
        assert of_redis(server.url) - NOTES == {("warning", "memory-used")}
        # Nothing is left, and nothing is bounded that could grow.
        client.config_set("maxmemory", used // 2)
        assert of_redis(server.url) - NOTES == {("warning", "memory-used")}
    finally:
        client.config_set("maxmemory", "8gb")


def test_what_may_not_be_asked_is_a_note(server: RedisServer, client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all")
    client.execute_command("ACL", "SETUSER", "poor", "-config", "-acl", "-time", "-gearsync.status")
    found = of_redis(f"redis://poor:pw@127.0.0.1:{server.port}")
    assert found == {("note", "not-looked-at")} | NOTES
    # What is deployed can't be seen then, which is not to say that nothing is.
    client.execute_command("ACL", "SETUSER", "poor", "-gearsync.deployments")
    assert of_redis(f"redis://poor:pw@127.0.0.1:{server.port}") - NOTES == {("note", "not-looked-at")}


def test_writes_that_are_refused_for_lack_of_replicas(server: RedisServer, client: redis.Redis) -> None:
    try:
        client.config_set("min-replicas-to-write", 1)
        assert of_redis(server.url) == {("error", "min-replicas-to-write")} | NOTES
        # Redis asks for no replica then.
        client.config_set("min-replicas-max-lag", 0)
        assert of_redis(server.url) == NOTES
    finally:
        client.config_set("min-replicas-to-write", 0)
        client.config_set("min-replicas-max-lag", 10)


def test_a_server_that_runs_a_script_for_long(server: RedisServer, client: redis.Redis) -> None:
    client.config_set("lua-time-limit", 1)
    with server.client() as other, ThreadPoolExecutor(1) as pool:
        running = pool.submit(other.execute_command, "EVAL", "while true do end", 0)
        try:
            until(lambda: of_redis(server.url) == {("error", "redis-away")})
        finally:
            until(lambda: client.execute_command("SCRIPT", "KILL") == b"OK")
        with pytest.raises(redis.ResponseError):
            running.result()


def test_a_replica_is_not_told_to_start_workers(server: RedisServer, client: redis.Redis) -> None:
    with deployed.server(*GOOD) as replica, replica.client() as connected:
        connected.replicaof("127.0.0.1", str(server.port))
        until(lambda: connected.info("replication")["master_link_status"] == "up")
        until(lambda: client.info("replication")["slave0"]["state"] == "online")
        client.config_set("min-replicas-max-lag", 0)
        client.config_set("min-replicas-to-write", 1)
        try:
            assert of_redis(replica.url) == {("error", "role")} | (NOTES - {("note", "replicas")})
            replicated = {("note", "min-replicas-to-write")} | (NOTES - {("note", "replicas")})
            deployed.beat(client)
            until(lambda: of_redis(server.url) - {("error", "deployment")} == replicated)
        finally:
            client.config_set("min-replicas-to-write", 0)
            client.config_set("min-replicas-max-lag", 10)


def test_the_command_prints_and_ends_as_it_says(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """A dead letter warns, a worker that is away is an error; the file's database is asked."""
    letter_id = deployed.bury(client, "person:1", "no", {})
    path = tmp_path / "reporting.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE persons (id TEXT PRIMARY KEY, name TEXT)")
    file = tmp_path / "gearsync.toml"
    file.write_text(
        f'[targets.reporting]\nurl = "sqlite:///{path}"\n'
        '[[functions]]\nkind = "write-behind"\nkeys = "person:{id}"\ntable = "persons"\n'
        'columns = ["name"]\ntarget = "reporting"\n'
    )
    try:
        # In this process: a worker that has not reported for some seconds is taken for away.
        arguments = ["doctor", str(file), "--redis", server.url]
        done = CliRunner().invoke(group, arguments)
        assert done.exit_code == 0, done.stdout
        assert max(len(line) for line in done.stdout.splitlines()) <= 80
        assert "1 dead letter of target reporting" in " ".join(done.stdout.split())
        assert f"gearsync, target reporting (sqlite {sqlite3.sqlite_version})" in done.stdout
        deployed.beat(client)
        strict = CliRunner().invoke(group, [*arguments, "--strict", "--json"])
        assert strict.exit_code == 1
        document = json.loads(strict.stdout)
        assert document["ok"] is True, document
        assert [each["severity"] for each in document["findings"]] == ["warning"] + ["note"] * len(NOTES)
    finally:
        client.xdel(deployed.lanes(client)[0][1], letter_id)
    deployed.beat(client, error="the driver is gone", state="failed")
    assert ("error", "deployment") in of_redis(server.url)


def test_a_server_without_a_host_or_none_at_all() -> None:
    with RedisServer() as bare:
        found = of_redis(bare.url)
        url = bare.url
    assert {("error", "host"), ("error", "appendonly")} <= found
    assert of_redis(url) == {("error", "redis-away")}


# -- Databases ---------------------------------------------------------------------------------------------


def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "reporting.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE persons (id TEXT PRIMARY KEY, name TEXT);"
            "CREATE TABLE merged (id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT UNIQUE);"
            "CREATE TRIGGER t AFTER INSERT ON merged BEGIN SELECT 1; END;"
            "CREATE TABLE keyless (id TEXT, name TEXT);"
        )
    url = f"sqlite:///{path}"
    assert of_database(url) == {}
    assert set(of_database(url, "merged")) == {
        ("warning", "table"),
        ("note", "unique"),
        ("note", "triggers"),
    }
    assert set(of_database(url, "keyless")) == {("error", "table")}
    assert set(of_database(url, "missing")) == {("error", "table")}
    assert set(of_database("")) == {("note", "not-looked-at")}


def test_mariadb(mariadb_url: str) -> None:
    run_sql(
        mariadb_url,
        "CREATE TABLE persons (id VARCHAR(64) COLLATE utf8mb4_bin PRIMARY KEY, name VARCHAR(64)) "
        "CHARACTER SET utf8mb4",
    )
    run_sql(mariadb_url, "CREATE TABLE old (id VARCHAR(64) PRIMARY KEY, name VARCHAR(64)) CHARACTER SET utf8")
    assert {each for each in of_database(mariadb_url) if each[0] != "note"} == set()
    with mock.patch("connectors.mysql.connector._SQL_MODE", ""):
        # As where a proxy keeps from the session what the connector sets.
        assert ("error", "sql_mode") in of_database(mariadb_url)
    merged = of_database(mariadb_url, "old")
    assert ("warning", "charset") in merged
    assert "some different texts are equal" in merged["warning", "table"]
    names = ("innodb_flush_log_at_trx_commit", "max_allowed_packet", "sql_mode", "read_only")
    before = run_sql(mariadb_url, f"SELECT {', '.join('@@GLOBAL.' + name for name in names)}")[0]
    try:
        run_sql(
            mariadb_url, "SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL max_allowed_packet = 1048576"
        )
        run_sql(mariadb_url, "SET GLOBAL sql_mode = '', GLOBAL read_only = ON")
        found = set(of_database(mariadb_url))
        run_sql(mariadb_url, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        assert ("error", "durability") in of_database(mariadb_url)
        run_sql(mariadb_url, "SET GLOBAL innodb_flush_log_at_trx_commit = 3")
        assert {check for _, check in of_database(mariadb_url)}.isdisjoint({"durability"})
    finally:
        for name, value in zip(names, before):
            run_sql(mariadb_url, f"SET GLOBAL {name} = {value!r}")
    assert found >= {("warning", "durability"), ("warning", "max_allowed_packet"), ("note", "sql_mode")}
    assert ("error", "read-only") in found


def test_mariadb_rights(mariadb_url: str) -> None:
    run_sql(
        mariadb_url,
        "CREATE TABLE persons (id VARCHAR(64) COLLATE utf8mb4_bin PRIMARY KEY, name VARCHAR(64))",
    )
    url = make_url(mariadb_url)
    run_sql(mariadb_url, "CREATE USER doctored@'%' IDENTIFIED BY 'pw'")
    try:
        run_sql(mariadb_url, f"GRANT SELECT, INSERT ON {url.database}.persons TO doctored@'%'")
        poor = url.set(username="doctored", password="pw").render_as_string(hide_password=False)
        found = of_database(poor)
        assert ("error", "database-away") not in found
        remembered = []
        for table in ("gearsync_checkpoint", "gearsync_letter"):
            run_sql(mariadb_url, f"CREATE TABLE {table} (stream INT)")
            run_sql(mariadb_url, f"GRANT SELECT ON {url.database}.{table} TO doctored@'%'")
            remembered.append(of_database(poor)["warning", "privileges"])
        run_sql(
            mariadb_url, f"GRANT INSERT, UPDATE, DELETE ON {url.database}.gearsync_letter TO doctored@'%'"
        )
        assert ("warning", "privileges") not in of_database(poor)
        reading = of_database(poor, pattern=Reading())["error", "privileges"]
        run_sql(mariadb_url, f"GRANT ALL ON {url.database}.persons TO doctored@'%'")
        own = of_database(poor)["error", "privileges"]
        run_sql(mariadb_url, f"GRANT ALL ON {url.database}.gearsync_checkpoint TO doctored@'%'")
        assert of_database(poor) == {}
        through = of_database(poor, pattern=Through())["error", "privileges"]
        run_sql(mariadb_url, f"GRANT ALL ON {url.database}.gearsync_intent TO doctored@'%'")
        assert of_database(poor, pattern=Through()) == {}
    finally:
        run_sql(mariadb_url, "DROP USER doctored@'%'")
    assert ("error", "privileges") in found
    assert "may not INSERT, UPDATE, DELETE on gearsync_checkpoint" in own
    assert reading == own, "a table that is only read is asked for more than SELECT"
    assert "may not CREATE, SELECT, INSERT, UPDATE, DELETE on gearsync_intent" in through
    assert "CREATE, SELECT, INSERT, UPDATE, DELETE on gearsync_letter" in remembered[0]
    assert "may not INSERT, UPDATE, DELETE on gearsync_letter" in remembered[1]


def test_postgres(postgres_url: str) -> None:
    name = make_url(postgres_url).database
    run_sql(postgres_url, "CREATE TABLE persons (id text PRIMARY KEY, name text)")
    assert of_database(postgres_url) == {}
    run_sql(postgres_url, "CREATE UNLOGGED TABLE lost (id text PRIMARY KEY, name text)")
    run_sql(
        postgres_url,
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    )
    run_sql(postgres_url, "CREATE TABLE merged (id text COLLATE folded PRIMARY KEY, name text)")
    run_sql(postgres_url, "ALTER TABLE merged ENABLE ROW LEVEL SECURITY")
    assert set(of_database(postgres_url, "lost")) == {("error", "unlogged")}
    # Policies are not for the owner of a table.
    assert set(of_database(postgres_url, "merged")) == {("warning", "table")}
    run_sql(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    run_sql(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert set(of_database(postgres_url)) == {("error", "durability"), ("error", "read-only")}


def test_postgres_rights(postgres_url: str) -> None:
    url = make_url(postgres_url)
    run_sql(postgres_url, "CREATE TABLE persons (id text PRIMARY KEY, name text)")
    role = f"doctored_{url.database}"
    run_sql(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        run_sql(postgres_url, f"GRANT SELECT ON persons TO {role}")
        poor = url.set(username=role, password="pw").render_as_string(hide_password=False)
        found = of_database(poor)
        remembered = []
        for table in ("gearsync_checkpoint", "gearsync_letter"):
            run_sql(postgres_url, f"CREATE TABLE {table} (stream int)")
            run_sql(postgres_url, f"GRANT SELECT ON {table} TO {role}")
            remembered.append(of_database(poor)["warning", "privileges"])
        run_sql(postgres_url, f"GRANT ALL ON gearsync_letter TO {role}")
        assert ("warning", "privileges") not in of_database(poor)
        reading = of_database(poor, pattern=Reading())["error", "privileges"]
        run_sql(postgres_url, f"GRANT ALL ON persons TO {role}")
        own = of_database(poor)["error", "privileges"]
        run_sql(postgres_url, f"GRANT ALL ON gearsync_checkpoint TO {role}")
        assert of_database(poor) == {}
        through = of_database(poor, pattern=Through())["error", "privileges"]
        run_sql(postgres_url, "CREATE TABLE gearsync_intent (stream int)")
        run_sql(postgres_url, f"GRANT ALL ON gearsync_intent TO {role}")
        assert of_database(poor, pattern=Through()) == {}
        run_sql(postgres_url, "ALTER TABLE persons ENABLE ROW LEVEL SECURITY")
        assert set(of_database(poor)) == {("warning", "row-security")}
    finally:
        run_sql(postgres_url, f"DROP OWNED BY {role}")
        run_sql(postgres_url, f"DROP ROLE {role}")
    assert ("error", "privileges") in found
    assert "may not CREATE on gearsync_letter" in remembered[0]
    assert "may not INSERT, UPDATE, DELETE on gearsync_checkpoint" in own
    assert reading == own, "a table that is only read is asked for more than SELECT"
    assert "may not CREATE on gearsync_intent" in through
    assert "may not INSERT, UPDATE, DELETE on gearsync_letter" in remembered[1]
