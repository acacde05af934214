"""Which servers the tests choose."""

from __future__ import annotations

import pytest

from tests.choice import choose, must_not_miss, newest


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_order_of_choice(kind: str) -> None:
    """A URL wins over Docker, Docker over a binary, and without any of them the advice says what to do."""
    variable = {"postgres": "GEARSYNC_TEST_POSTGRES_URL", "mariadb": "GEARSYNC_TEST_MYSQL_URL"}[kind]
    assert choose(kind, {variable: "sql://somewhere"}, True, "/bin/server") == ("url", "sql://somewhere")
    assert choose(kind, {variable: ""}, True, "/bin/server").source == "docker"
    assert choose(kind, {}, False, "/bin/server") == ("binary", "/bin/server")
    missing = choose(kind, {}, False, None)
    assert missing.source == "missing"
    assert variable in missing.value


def test_missing_server_fails_only_in_ci() -> None:
    assert must_not_miss({"CI": "true"})
    assert not must_not_miss({"CI": "false"})
    assert not must_not_miss({})


def test_newest_compares_numbers() -> None:
    """9.6 is older than 15, though it sorts after it as text."""
    paths = ["/usr/lib/postgresql/9.6/bin/postgres", "/usr/lib/postgresql/15/bin/postgres"]
    assert newest(paths) == paths[1]
    assert newest([]) is None
