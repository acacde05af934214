"""The servers for tests start, keep their data over a crash, and end."""

from __future__ import annotations

import psutil
import pytest
from sqlalchemy.engine import make_url

from tests.servers import DatabaseServer, MariaDBServer, PostgresServer, RedisServer, ServerError, run_sql


def test_redis_keeps_what_it_synced_over_a_crash() -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        server.client().set("a", "1")
        pid, port = server.pid, server.port
        server.restart()
        assert server.pid != pid
        assert server.port == port
        assert server.client().get("a") == b"1"
        assert "Ready to accept connections" in server.log_text()
        directory = server.directory
    assert not psutil.pid_exists(pid)
    assert not directory.exists()


def test_redis_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerError, match="no-such-option"):
        RedisServer("--no-such-option", "1").start()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_database_keeps_what_it_committed_over_a_crash(kind: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(kind)
    if not isinstance(server, DatabaseServer):
        pytest.skip("this server is not of the tests' own making")
    url = server.create_database()
    assert make_url(url).password is None
    run_sql(url, "CREATE TABLE t (a INT)")
    run_sql(url, "INSERT INTO t VALUES (7)")
    server.restart()
    assert run_sql(url, "SELECT a FROM t") == [(7,)]
    server.drop_database(url)


def test_database_url_is_fresh(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE once (a INT)")
    assert run_sql(database_url, "SELECT * FROM once") == []


@pytest.mark.parametrize("server_class", [PostgresServer, MariaDBServer])
def test_stop_ends_all_processes(server_class: type[DatabaseServer], request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(server_class.name)
    with server_class() as server:
        main = psutil.Process(server.pid)
        family = [main, *main.children(recursive=True)]
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert len(gone) == len(family)
