"""RedisGears with recipes that call rgsync with our connector, and the database that they write to."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.deploying import ROOT, eventually
from tests.redisgears import RedisGears, skip_without_redisgears
from tests.servers import run_sql

PERSONS = """CREATE TABLE persons (person_id INT PRIMARY KEY, first VARCHAR(20), age INT NOT NULL,
 CHECK (age <> 13))"""

#: ``kind`` is rgsync's class, ``prefix`` and ``options`` are its own.
RECIPE = """
from connectors import Target
from connectors.rgsync import RgsyncConnector
from rgsync import {kind}

{kind}(
    GB,
    keysPrefix={prefix!r},
    mappings={{"first_name": "first", "age": "age"}},
    connector=RgsyncConnector(Target("env:RGSYNC_TEST_URL"), "persons", "person_id"),
    name="Persons{kind}",
    version="99.99.99",
    **{options!r}
)
"""
DEAD = "gearsync:{*}:dead:rgsync:persons"


def rgsync_folder() -> Path | None:
    """Return the folder of the package, which can't be imported outside RedisGears."""
    found = importlib.util.find_spec("rgsync")
    return Path(found.origin).parent if found is not None and found.origin else None


def skip_without_rgsync() -> None:
    """Skip the module of tests that calls this, in one line, where it can't be run."""
    skip_without_redisgears()
    if rgsync_folder() is None:
        pytest.skip("no rgsync: pip install --no-deps rgsync==1.2.0", allow_module_level=True)


class World:
    """A server with one of rgsync's recipes, and the database that it writes to."""

    def __init__(self, server: RedisGears, url: str) -> None:
        self.server = server
        self.url = url
        self.client = server.client(decode_responses=True)

    def register(self, kind: str, prefix: str, **options: Any) -> None:
        self.server.run(RECIPE.format(kind=kind, prefix=prefix, options=options))

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in run_sql(self.url, "SELECT * FROM persons ORDER BY person_id")]

    def until_rows(self, *rows: tuple[Any, ...]) -> None:
        try:
            eventually(lambda: self.rows() == list(rows))
        except AssertionError as error:
            raise AssertionError(f"{self.rows()} is not {rows}: {self.errors()}") from error

    def errors(self) -> list[str]:
        """Return the last error of each registration that has one."""
        data = [each["RegistrationData"] for each in self.server.registrations()]
        return [each["lastError"] for each in data if each["lastError"]]

    def letters(self) -> list[dict[str, str]]:
        streams: Any = self.client.keys(DEAD)
        found: list[Any] = []
        for stream in streams:
            found += self.client.xrange(stream) or []
        return [fields for _, fields in found]

    def acknowledgment(self, key: str, uuid: str) -> dict[str, str]:
        """Wait for what rgsync says of one write."""
        found: Any = self.client.xread({f"{{{key}}}{uuid}": "0-0"}, block=20_000)
        [[_, [[_, fields]]]] = found
        return dict(fields)


@contextmanager
def running(url: str, folder: Path, *options: str) -> Iterator[World]:
    """Run RedisGears with AOF, whose Python has rgsync and our connectors, beside a fresh table persons."""
    run_sql(url, PERSONS)
    rgsync = rgsync_folder()
    assert rgsync is not None
    packages = folder / "packages"
    packages.mkdir()
    for package in (rgsync, ROOT / "connectors"):
        # The folders that they are in may have other packages, of another Python.
        (packages / package.name).symlink_to(package)
    server = RedisGears(
        *("--appendonly", "yes", "--appendfsync", "always", *options),
        python_path=[packages],
        environment={"RGSYNC_TEST_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with server:
        yield World(server, url)
