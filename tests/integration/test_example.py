"""examples/, with real servers: what docker-compose.yml deploys."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.integration.deploying import ROOT, gearsync, rows
from tests.integration.system import System
from tests.servers import run_sql

EXAMPLES = ROOT / "examples"
SELECT = "SELECT person_id, first, last, age FROM persons ORDER BY person_id"


@pytest.fixture
def urls(postgres_url: str, mariadb_url: str) -> dict[str, str]:
    """Databases with the example's tables, by their variables in docker-compose.yml."""
    found = {"POSTGRES_URL": postgres_url, "MYSQL_URL": mariadb_url}
    for name, url in found.items():
        kind = name.partition("_")[0].lower()
        run_sql(url, (EXAMPLES / f"schema.{kind}.sql").read_text("utf-8"))
    return found


def plain(urls: dict[str, str]) -> dict[str, str]:
    """Return the URLs as they stand there: without a driver's name."""
    return {
        name: make_url(url)
        .set(drivername=make_url(url).get_backend_name())
        .render_as_string(hide_password=False)
        for name, url in urls.items()
    }


def test_the_check_compares_the_example_with_its_tables(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in plain(urls).items():
        monkeypatch.setenv(name, url)
    done = gearsync("check", str(EXAMPLES / "functions.py"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_hashes_become_rows_in_both_databases(tmp_path: Path, urls: dict[str, str]) -> None:
    text = (EXAMPLES / "functions.py").read_text("utf-8")
    system = System(tmp_path, text, plain(urls))
    with system as client:
        client.hset("person:1", mapping={"first_name": "Ada", "last_name": "Lovelace", "age": "36"})
        client.hset("person:2", mapping={"first_name": "Žofie", "last_name": "🜁"})
        client.hincrby("person:1", "age", 1)
        client.hset("other:3", "first_name", "nobody")
        system.wait()
        assert not system.letters()
        for url in urls.values():
            assert rows(url, SELECT) == [(1, "Ada", "Lovelace", 37), (2, "Žofie", "🜁", None)]
        client.delete("person:2")
        system.wait()
        for url in urls.values():
            assert rows(url, SELECT) == [(1, "Ada", "Lovelace", 37)]
