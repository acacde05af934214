"""A recipe for rgsync, migrated, deployed to a real server, and seen in SQL."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from sqlalchemy.engine import make_url

from tests.integration.deploying import (
    eventually,
    gearsync,
    redis_with_module,
    rows,
    worker_environment,
    write,
)
from tests.servers import run_sql

RECIPE = """
from rgsync import RGWriteBehind
from rgsync.Connectors import {kind}Connection, {kind}Connector

connection = {kind}Connection({user!r}, "Geheim-7", {where!r})
persons = {kind}Connector(connection, "persons", "person_id", exactlyOnceTableName="once")
RGWriteBehind(
    GB,
    keysPrefix="person",
    mappings={{"first_name": "first", "age": "age"}},
    connector=persons,
    name="Persons",
    version="99.99.99",
)
"""
THROUGH = """
from rgsync import RGWriteThrough
from rgsync.Connectors import {kind}Connection, {kind}Connector

RGWriteThrough(
    GB,
    keysPrefix="__{{car:",
    mappings={{"color": "color"}},
    connector={kind}Connector({kind}Connection({user!r}, "Geheim-7", {where!r}), "cars", "car_id"),
    name="Cars",
    version="99.99.99",
)
"""


DATABASES = pytest.mark.parametrize(
    ("database_url", "kind"), [("postgres", "Postgres"), ("mariadb", "MySql")], indirect=["database_url"]
)


def migrate(recipe: str, kind: str, database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Migrate a recipe, and have the variables that its functions need; return their file."""
    url = make_url(database_url)
    text = recipe.format(kind=kind, user=url.username, where=f"{url.host}:{url.port}/{url.database}")
    path = str(folder / "functions.py")

    migrated = gearsync("migrate", write(folder, text, "recipe.py"), "--output", path)

    assert migrated.returncode == 0, migrated.stderr
    assert "Geheim" not in migrated.stdout + migrated.stderr + Path(path).read_text("utf-8")
    [said] = [line for line in migrated.stderr.splitlines() if line.startswith("Set where the worker runs")]
    variable, _, form = said.partition("***: ")[2].partition("=")
    scheme = "postgresql" if kind == "Postgres" else "mysql"
    assert form == f"{scheme}://{url.username}:***@{url.host}:{url.port}/{url.database}"
    for name, value in {**worker_environment(""), variable: database_url}.items():
        monkeypatch.setenv(name, value)
    return path


@DATABASES
def test_rows_arrive_by_the_functions_of_a_migrated_recipe(
    database_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(database_url, "CREATE TABLE persons (person_id INT PRIMARY KEY, first VARCHAR(20), age INT)")
    path = migrate(RECIPE, kind, database_url, tmp_path, monkeypatch)

    with redis_with_module() as server, server.client() as client:
        deployed = gearsync("deploy", path, "--redis", server.url)
        assert deployed.returncode == 0, deployed.stderr
        client.hset("person:1", mapping={"first_name": "Ada", "age": 36})
        client.hset("person:2", mapping={"first_name": "Alan", "age": 41})
        client.hset("person:3", mapping={"first_name": "Grace", "age": 85})
        client.hincrby("person:1", "age", 1)
        client.delete("person:2")
        client.pexpire("person:3", 25)
        eventually(lambda: client.exists("person:3") == 0)
        waited = gearsync("wait", "--timeout", "30", "--redis", server.url)
        assert waited.returncode == 0, waited.stderr
        # rgsync keeps the rows of keys that expire.
        assert rows(database_url, "SELECT * FROM persons ORDER BY 1") == [(1, "Ada", 37), (3, "Grace", 85)]


@pytest.mark.one_database
@DATABASES
def test_a_migrated_write_through_waits_for_sql(
    database_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(database_url, "CREATE TABLE cars (car_id VARCHAR(20) PRIMARY KEY, color VARCHAR(20))")
    path = migrate(THROUGH, kind, database_url, tmp_path, monkeypatch)

    with redis_with_module() as server, server.client() as client:
        deployed = gearsync("deploy", path, "--redis", server.url)
        assert deployed.returncode == 0, deployed.stderr
        client.hset("car:red-1", mapping={"color": "red"})
        assert rows(database_url, "SELECT * FROM cars") == [("red-1", "red")]
        with pytest.raises(redis.ResponseError, match="THROUGH"):
            client.hset("car:red-1", mapping={"color": "r" * 21})
        assert client.hget("car:red-1", "color") == b"red"
