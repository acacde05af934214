"""Databases that go away, are locked, or turn the worker away."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from connectors import Connector, RowOp, Unavailable, connect
from connectors.pool import IDLE_SECONDS
from tests.integration.connectors.conftest import STREAM, Database, wait_for_a_waiter
from tests.servers import free_port, run_sql


@pytest.fixture(params=["postgres", "mariadb"])
def killable(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Database]]:
    """A server that may be killed, and a database on it."""
    server = request.getfixturevalue(request.param)
    if not hasattr(server, "kill9"):
        pytest.skip("this server was given to the tests, and is not theirs to kill")
    url = server.create_database()
    connector = connect(url)
    yield server, Database(url, connector)
    connector.close()
    server.drop_database(url)


def counted(database: Database, keys: range) -> list[RowOp]:
    return [database.upsert("counted", {"id": i, "a": i}) for i in keys]


def count_updates(database: Database) -> None:
    """Have a trigger count how often each row was written."""
    database.sql("CREATE TABLE counted (id INT PRIMARY KEY, a INT, times INT NOT NULL DEFAULT 1)")
    if database.backend == "postgresql":
        database.sql(
            "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.times = OLD.times + 1; RETURN NEW; END'"
        )
        database.sql("CREATE TRIGGER again BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION again()")
    else:
        database.sql(
            "CREATE TRIGGER again BEFORE UPDATE ON counted FOR EACH ROW SET NEW.times = OLD.times + 1"
        )


def test_kill_in_mid_batch_then_exactly_once(killable: tuple[Any, Database]) -> None:
    server, database = killable
    count_updates(database)
    database.sql("CREATE TABLE strict (id INT PRIMARY KEY, a INT NOT NULL)")
    database.apply(*counted(database, range(100)))
    rows = [*counted(database, range(100, 200)), database.upsert("strict", {"id": 1, "a": None})]
    before = database.checkpoint()

    def kill(refusals: object) -> None:
        server.kill9()

    with pytest.raises(Unavailable):
        database.connector.apply(database.claim, database.next_position(), rows, kill, lambda row: ())
    with pytest.raises(Unavailable):
        database.connector.claim(STREAM, 1, "worker-1")
    server.restart()
    assert database.checkpoint() == before
    database.claim = database.connector.claim(STREAM, 1, "worker-1")
    assert tuple(database.claim.position) == before[:3]
    assert database.apply(*rows).rows == 100
    assert database.sql("SELECT COUNT(*), MIN(times), MAX(times) FROM counted") == [(200, 1, 1)]


def test_kill_under_load_then_exactly_once(killable: tuple[Any, Database]) -> None:
    """Whenever the server dies, the next claim tells whether the batch in flight is in."""
    server, database = killable
    count_updates(database)
    killer = threading.Timer(0.5, server.kill9)
    killer.start()
    batch, applied, restarted = 100, 0, False
    deadline = time.monotonic() + 60
    while not restarted or applied < 3000:
        assert time.monotonic() < deadline
        try:
            position = database.claim.position._replace(epoch=1, ms=applied + batch)
            rows = counted(database, range(applied, applied + batch))
            database.connector.apply(database.claim, position, rows, print, lambda row: ())
            applied += batch
        except Unavailable:
            killer.join()
            server.restart()
            restarted = True
            database.claim = database.connector.claim(STREAM, 1, "worker-1")
            applied = database.claim.position.ms
    assert database.sql("SELECT COUNT(*), MAX(times) FROM counted") == [(applied, 1)]
    assert database.checkpoint()[3] == applied


def test_connection_closed_while_idle_does_not_fail_a_batch(killable: tuple[Any, Database]) -> None:
    server, database = killable
    database.sql("CREATE TABLE counted (id INT PRIMARY KEY, a INT)")
    database.apply(*counted(database, range(2)))
    idle_until = time.monotonic() + IDLE_SECONDS
    server.restart()
    while time.monotonic() < idle_until:
        time.sleep(0.05)
    assert database.apply(*counted(database, range(4))) == (4, 0)


def test_row_lock_of_somebody_else(database_url: str) -> None:
    connector = connect(database_url, lock_seconds=1)
    database = Database(database_url, connector)
    database.sql("CREATE TABLE counted (id INT PRIMARY KEY, a INT)")
    database.apply(*counted(database, range(2)))
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as other:
        if database.backend == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.exec_driver_sql("UPDATE counted SET a = 7 WHERE id = 1")
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"(?i)lock"):
            database.apply(*counted(database, range(2)))
        assert time.monotonic() - started < 10
        other.rollback()
    assert database.checkpoint()[:2] == (1, 1)
    assert database.apply(*counted(database, range(2))) == (2, 0)
    connector.close()


def test_deadlock(killable: tuple[Any, Database]) -> None:
    """One of two transactions that wait for each other is chosen by the server to fail."""
    _, database = killable
    database.sql("CREATE TABLE counted (id INT PRIMARY KEY, a INT)")
    database.sql("CREATE TABLE other (id INT PRIMARY KEY, a INT)")
    database.apply(*counted(database, range(2)), database.upsert("other", {"id": 1, "a": 1}))
    failed: list[BaseException] = []

    def work() -> None:
        # Deletes come before upserts: first other, then counted.
        rows = [database.delete("other", 1), *counted(database, range(2))]
        try:
            database.apply(*rows)
        except Unavailable as error:
            failed.append(error)

    engine = sa.create_engine(database.url, poolclass=sa.NullPool)
    with engine.connect() as rival:
        rival.exec_driver_sql("UPDATE counted SET a = 7 WHERE id = 1")
        worker = threading.Thread(target=work)
        worker.start()
        wait_for_a_waiter(database)
        try:
            rival.exec_driver_sql("UPDATE other SET a = 7 WHERE id = 1")
        except sa.exc.OperationalError as error:
            # The server chose the rival: no fault of the worker's.
            assert "eadlock" in str(error.orig)
        rival.rollback()
        worker.join(30)
    assert not worker.is_alive()
    if failed:
        assert "eadlock" in str(failed[0])
        database.claim = database.connector.claim(STREAM, 1, "worker-1")
        database.apply(database.delete("other", 1))
    assert database.sql("SELECT * FROM other") == []


def test_database_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    for scheme in ("postgresql", "mysql"):
        connector = connect(f"{scheme}://someone:s3cret@127.0.0.1:{port}/x")
        _expect_unavailable(connector)
    _expect_unavailable(connect(f"sqlite:///{tmp_path}/no/such/folder/x.db"))


def test_login_that_is_turned_away_is_retried_and_says_so(postgres_url: str, mariadb_url: str) -> None:
    wrong = make_url(mariadb_url).set(username="someone", password="s3cret")
    assert "someone" in _expect_unavailable(connect(wrong))
    nowhere = make_url(mariadb_url).set(database="nowhere")
    assert "nowhere" in _expect_unavailable(connect(nowhere))
    # Only who has logged in hears that there is no such database.
    own = make_url(postgres_url)
    nowhere = own.set(database="nowhere", password=own.password or "s3cret")
    assert "nowhere" in _expect_unavailable(connect(nowhere))
    role = make_url(postgres_url).set(username="someone", password="s3cret")
    assert "someone" in _expect_unavailable(connect(role))


def _expect_unavailable(connector: Connector) -> str:
    """Expect that no call works, and that nothing shows the password; return the message."""
    for call in (
        connector.ensure_checkpoint,
        lambda: connector.table("persons"),
        lambda: connector.claim("s", 1, "w"),
    ):
        with pytest.raises(Unavailable) as caught:
            call()
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in repr(connector)
    connector.close()
    return str(caught.value)


def test_read_only_database(killable: tuple[Any, Database]) -> None:
    _, database = killable
    database.sql("CREATE TABLE counted (id INT PRIMARY KEY, a INT)")
    name = make_url(database.url).database
    if database.backend == "postgresql":
        database.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        database.connector.close()
        with pytest.raises(Unavailable, match="read-only"):
            database.apply(*counted(database, range(2)))
        _expect_another_session(database.connector, "SELECT pg_backend_pid()", "CREATE TABLE x (id INT)")
        return
    user, database_url = f"u{name}"[:30], make_url(database.url)
    # The address that the server sees: of a container's network, if it runs in one.
    peer = str(database.sql("SELECT SUBSTRING_INDEX(USER(), '@', -1)")[0][0])
    peer = "127.0.0.1" if peer == "localhost" else peer
    database.sql(f"CREATE USER {user}@'{peer}' IDENTIFIED BY 's3cret'")
    database.sql(f"GRANT ALL ON {name}.* TO {user}@'{peer}'")
    database.sql("SET GLOBAL read_only = 1")
    connector = connect(database_url.set(username=user, password="s3cret"))
    try:
        with pytest.raises(Unavailable, match="read-only"):
            connector.claim(STREAM, 1, "w")
        _expect_another_session(connector, "SELECT CONNECTION_ID()", "CREATE TABLE x (id INT)")
    finally:
        database.sql("SET GLOBAL read_only = 0")
        database.sql(f"DROP USER {user}@'{peer}'")
        connector.close()


def _expect_another_session(connector: Connector, ask: str, write: str) -> None:
    """Expect that no session is used again that could only read: it may be one of a demoted server."""
    sessions = set()
    for _ in range(3):
        with pytest.raises(Unavailable, match="read-only"), connector.transaction() as connection:
            sessions.add(connection.exec_driver_sql(ask).scalar_one())
            connection.exec_driver_sql(write)
    assert len(sessions) == 3


def test_values_and_statements_stay_out_of_errors_and_logs(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connector = connect(database_url)
    database = Database(database_url, connector)
    database.sql("CREATE TABLE private (id INT PRIMARY KEY, a VARCHAR(40))")
    row = database.upsert("private", {"id": 1, "a": "my secret value"})
    run_sql(database_url, "DROP TABLE private")
    with pytest.raises(Exception, match="private") as caught:
        database.apply(row)
    assert "my secret value" not in "".join(traceback.format_exception(caught.value))
    assert "my secret value" not in caplog.text
    connector.close()
