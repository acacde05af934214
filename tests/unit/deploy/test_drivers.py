"""What a deployment needs of RedisGears' Python, from what its shards have."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import Target
from deploy.hosts import drivers
from deploy.hosts.packages import Known, Packages
from gears.declaring.deployment import Deployment

SQLALCHEMY = "SQLAlchemy==2.0.58"
PSYCOPG = "psycopg[binary]==3.1.20"
ABSENT = {"sqlalchemy": "absent", "psycopg": "absent", "pymysql": "absent"}
OWN = {"sqlalchemy": "own", "psycopg": "own", "pymysql": "own"}
BROUGHT = {"sqlalchemy": "brought", "psycopg": "brought", "pymysql": "brought"}


class Shards(Packages):
    """Packages of shards that answer so."""

    def __init__(self, *shards: dict[str, str], known: tuple[str, ...] = ()) -> None:
        self._shards = shards
        self._known = [Known(each, (), True) for each in known]

    def known(self) -> list[Known]:
        return self._known

    def look(self, modules: list[str]) -> list[dict[str, str]]:
        return [{name: each[name] for name in modules} for each in self._shards]


def deployment(monkeypatch: pytest.MonkeyPatch, url: str = "sqlite:///a.db", **values: Any) -> Deployment:
    monkeypatch.setenv("DRIVERS_TEST_URL", url)
    return Deployment("people", targets={"t": Target("env:DRIVERS_TEST_URL", name="t")}, **values)


def test_a_python_that_has_all_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = drivers.needs(Shards(OWN, OWN), deployment(monkeypatch))
    assert (needs.requirements, needs.missing) == ([], [])


def test_what_one_shard_lacks_is_brought_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = drivers.needs(Shards(OWN, ABSENT), deployment(monkeypatch))
    assert (needs.requirements, needs.missing) == ([SQLALCHEMY], [SQLALCHEMY])


@pytest.mark.parametrize(
    ("url", "driver"),
    [("postgresql://h/d", PSYCOPG), ("mysql://h/d", "PyMySQL==1.1.1"), ("mariadb://h/d", "PyMySQL==1.1.1")],
)
def test_each_kind_of_database_has_its_driver(url: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drivers.needs(Shards(ABSENT), deployment(monkeypatch, url)).missing == [SQLALCHEMY, driver]


def test_all_drivers_are_needed_when_the_url_is_known_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = deployment(monkeypatch)
    monkeypatch.delenv("DRIVERS_TEST_URL")
    assert set(drivers.needs(Shards(ABSENT), made).missing) == set(drivers.PINS)


def test_what_was_brought_is_named_again_lest_it_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(BROUGHT, known=(SQLALCHEMY,))
    needs = drivers.needs(shards, deployment(monkeypatch))
    assert (needs.requirements, needs.missing) == ([SQLALCHEMY], [])
    # RedisGears has forgotten it with its last session.
    assert drivers.needs(Shards(BROUGHT), deployment(monkeypatch)).missing == [SQLALCHEMY]


def test_another_version_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(OWN, known=("sqlalchemy>=2", "git+https://host/other", "psycopg==3.1.18"))
    needs = drivers.needs(shards, deployment(monkeypatch, "postgresql://h/d"))
    assert (needs.requirements, needs.missing) == (["sqlalchemy>=2"], [])
    without_binary = Shards(ABSENT, known=("psycopg==3.1.18",))
    assert PSYCOPG in drivers.needs(without_binary, deployment(monkeypatch, "postgresql://h/d")).missing


def test_the_users_own_requirements_go_first_without_their_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "phonenumbers==8.13.0; python_version < '3.8'",
        "tomli ; python_version > '3.10'",
        "sqlalchemy==2.0.30",
    ]
    needs = drivers.needs(Shards(ABSENT), deployment(monkeypatch, requirements=wanted))
    assert needs.requirements == needs.missing == ["phonenumbers==8.13.0", "sqlalchemy==2.0.30"]


def test_what_a_shell_would_take_for_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = deployment(monkeypatch, requirements=["lib @ https://host/$x/lib.whl", "other==1"])
    [problem] = drivers.unusable(made)
    assert "lib@" in problem.replace(" ", "")
