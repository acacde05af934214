"""Which servers the tests choose."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.choice import choose, must_not_miss, newest

VARIABLES = {
    "postgres": "GEARSYNC_TEST_POSTGRES_URL",
    "mariadb": "GEARSYNC_TEST_MYSQL_URL",
    "redisgears": "GEARSYNC_TEST_REDISGEARS_URL",
}


@pytest.mark.parametrize("kind", sorted(VARIABLES))
def test_order_of_choice(kind: str) -> None:
    """A URL wins over Docker, Docker over a binary, and without any of them the advice says what to do."""
    variable = VARIABLES[kind]
    assert choose(kind, {variable: "sql://somewhere"}, True, "/bin/server") == ("url", "sql://somewhere")
    assert choose(kind, {variable: ""}, True, None).source == "docker"
    assert choose(kind, {}, False, "/bin/server") == ("binary", "/bin/server")
    missing = choose(kind, {}, False, None)
    assert missing.source == "missing"
    assert variable in missing.value


@pytest.mark.parametrize("kind", sorted(VARIABLES))
def test_only_the_folder_of_redisgears_is_named_by_somebody_and_so_wins_over_docker(kind: str) -> None:
    assert choose(kind, {}, True, "/given").source == ("binary" if kind == "redisgears" else "docker")


def test_containers_of_the_tests_are_those_of_docker_compose() -> None:
    """RedisGears is no other version than the one that is deployed to."""
    services = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]
    assert services["redisgears"]["image"] == choose("redisgears", {}, True, None).value


def test_missing_server_fails_only_in_ci() -> None:
    assert must_not_miss({"CI": "true"})
    assert not must_not_miss({"CI": "false"})
    assert not must_not_miss({})


def test_newest_compares_numbers() -> None:
    """9.6 is older than 15, though it sorts after it as text."""
    paths = ["/usr/lib/postgresql/9.6/bin/postgres", "/usr/lib/postgresql/15/bin/postgres"]
    assert newest(paths) == paths[1]
    assert newest([]) is None
