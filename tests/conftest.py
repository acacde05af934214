"""Fixtures of all tests: real servers, chosen once, and a fresh database for each test."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from tests import redisgears as gears12
from tests.borrowed import ContainerServer, GivenServer
from tests.borrowed_redisgears import ContainerRedisGears, GivenRedisGears
from tests.choice import (
    REDISJSON_VARIABLE,
    Choice,
    choose,
    docker_answers,
    find_binary,
    must_not_miss,
    redisjson,
    version_of,
)
from tests.form import DATABASES, left_to_the_long_form
from tests.hosts import HOSTS
from tests.redisgears import RedisGears
from tests.sanitizers import module_path
from tests.servers import MariaDBServer, PostgresServer, RedisServer, ServerError, find_redis_server

# A busy machine makes examples slowly, which is no fault of a test; a server serves all examples of one.
settings.register_profile(
    "busy",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("busy")

Gears = Union[RedisGears, ContainerRedisGears, GivenRedisGears]
Database = Union[PostgresServer, MariaDBServer, GivenServer]


@functools.cache
def chosen(kind: str) -> Choice:
    """Return where the server of ``kind`` comes from in this run."""
    binary = gears12.home() if kind == "redisgears" else find_binary(kind)
    return choose(kind, os.environ, docker_answers(), str(binary) if binary else None)


def pytest_configure() -> None:
    """Let Ctrl-C end what the tests start: a shell starts background jobs deaf to it, and so their own."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have the options of tests/storm."""
    group = parser.getgroup("storm", "the storm (tests/storm)")
    minutes = os.environ.get("GEARSYNC_STORM_MINUTES", "0")
    group.addoption("--storm-minutes", type=float, default=float(minutes), help="how long each storm lasts")
    group.addoption("--storm-seed", type=int, default=0, help="the seed of each storm; 0: a new one")
    group.addoption("--storm-only", default="", help="only faults with this in their names")


def pytest_report_header() -> list[str]:
    """Say which servers the tests of this run use."""
    databases = [_database_line("postgres"), _database_line("mariadb")]
    sqlite = f"sqlite: {sqlite3.sqlite_version} (Python's own)"
    return [_redis_line(), *databases, sqlite, _redisgears_line(), _redisjson_line()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the long form runs."""
    left = [item for item in items if left_to_the_long_form(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in set(left)]


def _redis_line() -> str:
    try:
        binary = find_redis_server()
    except ServerError as error:
        return f"redis: {error}"
    return f"redis: {version_of(binary)} ({binary})"


def _database_line(kind: str) -> str:
    choice = chosen(kind)
    if choice.source == "url":
        return f"{kind}: {make_url(choice.value).render_as_string()} (given)"
    if choice.source == "docker":
        return f"{kind}: {choice.value} (Docker)"
    if choice.source == "binary":
        return f"{kind}: {version_of(choice.value)} ({choice.value})"
    return f"{kind}: none; {choice.value}"


def _redisgears_line() -> str:
    choice = chosen("redisgears")
    if choice.source == "url":
        return "redisgears: given by GEARSYNC_TEST_REDISGEARS_URL"
    if choice.source == "docker":
        return f"redisgears: {choice.value} (Docker)"
    return f"redisgears: {'none' if choice.source == 'missing' else choice.value}"


def _redisjson_line() -> str:
    return f"redisjson: {redisjson() or f'one of the tests stands for it ({REDISJSON_VARIABLE} names none)'}"


def _missing(sentence: str) -> None:
    if must_not_miss(os.environ):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def _database(kind: str) -> Database:
    choice = chosen(kind)
    if choice.source == "missing":
        _missing(f"no {kind} server: {choice.value}")
    if choice.source == "url":
        return GivenServer(choice.value)
    if choice.source == "docker":
        return ContainerServer(kind, choice.value)
    return PostgresServer(choice.value) if kind == "postgres" else MariaDBServer(choice.value)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """A running PostgreSQL server."""
    server = _database("postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Database]:
    """A running MariaDB or MySQL server."""
    server = _database("mariadb")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: Database) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def mariadb_url(mariadb: Database) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh MariaDB or MySQL database."""
    url = mariadb.create_database()
    yield url
    mariadb.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'database.sqlite'}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of a fresh database, once for each kind of database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """What the functions run on, once for each; RedisGears only where there is one."""
    name: str = request.param
    if name == "redisgears" and gears12.home() is None:
        pytest.skip(gears12.ABSENT)
    return name


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A running redis-server with the module loaded."""
    try:
        module = module_path()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        server = RedisServer(module=module)
    except ServerError as error:
        _missing(str(error))
    with server:
        yield server


@pytest.fixture
def redisgears() -> Iterator[Gears]:
    """A running RedisGears 1.2; only one that is given can't be killed."""
    choice = chosen("redisgears")
    if choice.source == "missing":
        pytest.skip(gears12.ABSENT)
    server: Gears
    if choice.source == "url":
        server = GivenRedisGears(choice.value)
    elif choice.source == "docker":
        server = ContainerRedisGears(choice.value)
    else:
        server = RedisGears()
    with server:
        yield server
