"""gearsync init: from tables to a file that is deployed as it stands, on each database."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from click.testing import CliRunner, Result
from sqlalchemy.engine import make_url

from connectors import connect
from deploy import cli
from tests.integration.deploying import ROOT, redis_with_module
from tests.servers import RedisServer, run_sql

UUID = "0191a5c0-0000-7000-8000-000000000000"


class Case(NamedTuple):
    """A table's columns, the end of a key, a hash, and a query for what it becomes."""

    columns: str
    key: str
    fields: dict[Any, Any]
    query: str
    row: tuple[Any, ...]


COMMON = {
    "customers": Case(
        "id BIGINT PRIMARY KEY, name VARCHAR(80) NOT NULL, city VARCHAR(40) DEFAULT 'Berlin'",
        "1",
        {"name": "Ada"},
        "SELECT id, name, city FROM customers",
        (1, "Ada", "Berlin"),
    ),
    "a_order": Case(
        "region VARCHAR(8), order_id INTEGER, customer BIGINT NOT NULL REFERENCES customers(id), "
        "total NUMERIC(10, 2), PRIMARY KEY (region, order_id)",
        "eu:7",
        {"customer": "1", "total": "9.50"},
        "SELECT region, order_id, customer FROM a_order",
        ("eu", 7, 1),
    ),
    "numbers": Case(
        "id SMALLINT PRIMARY KEY, n SMALLINT, is_on BOOLEAN",
        "3",
        {"n": "-5", "is_on": "true"},
        "SELECT id, n FROM numbers WHERE is_on",
        (3, -5),
    ),
    "moments": Case(
        "id INTEGER PRIMARY KEY, at TIMESTAMP NULL, day DATE",
        "1",
        {"at": "2026-11-21T10:00:00Z", "day": "2026-11-21"},
        "SELECT CAST(day AS CHAR(10)) FROM moments",
        ("2026-11-21",),
    ),
    "texts": Case(
        "slug VARCHAR(64) PRIMARY KEY, body TEXT, code CHAR(2)",
        "über uns",
        {"body": "ß", "code": "de"},
        "SELECT slug, body, code FROM texts",
        ("über uns", "ß", "de"),
    ),
    "floats": Case(
        "id INTEGER PRIMARY KEY, f DOUBLE PRECISION", "1", {"f": "0.5"}, "SELECT f FROM floats", (0.5,)
    ),
    "documents": Case(
        "id INTEGER PRIMARY KEY, doc JSON", "1", {"doc": '{"a": 1}'}, "SELECT id FROM documents", (1,)
    ),
    "Select": Case(
        'id INTEGER PRIMARY KEY, "Order By" VARCHAR(9)',
        "1",
        {"Order By": "x"},
        'SELECT "Order By" FROM "Select"',
        ("x",),
    ),
    "br{ac}es": Case("id INTEGER PRIMARY KEY, n INTEGER", "1", {"n": 2}, 'SELECT n FROM "br{ac}es"', (2,)),
}
RAW = 'SELECT raw, tags, "double" FROM kinds'
TENTH = {
    "postgresql": Case(
        "id UUID PRIMARY KEY, raw BYTEA, tags TEXT[], double INTEGER GENERATED ALWAYS AS (2) STORED",
        UUID,
        {"raw": b"\xff", "tags": "{a,b}"},
        RAW,
        (b"\xff", ["a", "b"], 2),
    ),
    "mysql": Case(
        "id CHAR(36) PRIMARY KEY, raw BLOB, tags SET('a', 'b'), `double` INTEGER AS (2) STORED",
        UUID,
        {"raw": b"\xff", "tags": "b,a"},
        RAW,
        (b"\xff", "a,b", 2),
    ),
    "sqlite": Case(
        "id UUID PRIMARY KEY, raw BLOB, tags TEXT, double INTEGER GENERATED ALWAYS AS (2)",
        UUID,
        {"raw": b"\xff", "tags": "a,b"},
        RAW,
        (b"\xff", "a,b", 2),
    ),
}


def sql(url: str, statement: str) -> list[Any]:
    return run_sql(url, statement.replace('"', "`") if url.startswith("mysql") else statement)


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli.group, ["init", *arguments], catch_exceptions=False)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.group, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    with redis_with_module() as running:
        yield running
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def tables_of(url: str) -> dict[str, Case]:
    """Make ten tables, and one that can't be synced."""
    cases = {**COMMON, "kinds": TENTH[make_url(url).get_backend_name()]}
    for name, case in cases.items():
        sql(url, f'CREATE TABLE "{name}" ({case.columns})')
    sql(url, "CREATE TABLE keyless (a INTEGER)")
    return cases


def drafted(url: str, folder: Path) -> str:
    """Draft the ten tables of a database; see that the file is right, and return its path."""
    file = str(folder / f"{make_url(url).get_backend_name()}.toml")
    assert init(url, "--out", file).exit_code == 0
    content = Path(file).read_text("utf-8")
    assert content.index('table = "customers"') < content.index('table = "a_order"')
    assert "keyless: the table keyless has no primary key" in content
    assert "# double (" in content
    assert len(json.loads(run("check", file, "--json"))["functions"]) == 10
    return file


@pytest.mark.parametrize("kind", ["mariadb", "sqlite"])
def test_ten_tables_become_a_file_without_mistakes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    tables_of(url)
    drafted(url, tmp_path)


def test_ten_tables_become_a_file_that_is_deployed_as_it_stands(
    postgres_url: str, server: RedisServer, tmp_path: Path
) -> None:
    cases = tables_of(postgres_url)
    run("deploy", drafted(postgres_url, tmp_path), "--redis", server.url)
    with server.client() as client:
        for table, case in cases.items():
            client.hset(f"{table}:{case.key}", mapping=case.fields)
    run("wait", "--redis", server.url, "--deployment", "postgresql")
    for case in cases.values():
        assert [tuple(each) for each in sql(postgres_url, case.query)] == [case.row], case.query


@pytest.mark.parametrize("schema", ["public", 'Sales "{}'])
def test_partitions_are_left_to_their_table(schema: str, postgres_url: str, tmp_path: Path) -> None:
    quoted = '"{}"'.format(schema.replace('"', '""'))
    sql(postgres_url, f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    sql(postgres_url, f"CREATE TABLE {quoted}.logs (id INT PRIMARY KEY, n INT) PARTITION BY RANGE (id)")
    sql(postgres_url, f"CREATE TABLE {quoted}.logs_1 PARTITION OF {quoted}.logs FOR VALUES FROM (0) TO (9)")
    made = init(postgres_url, "--schema", schema, "--out", str(tmp_path / "a.toml"))
    assert made.exit_code == 0, made.output
    assert (tmp_path / "a.toml").read_text("utf-8").count("[[functions]]") == 1
    run("check", str(tmp_path / "a.toml"))


#: Tables of which no function can make rows, each with a word of the reason.
UNFIT = {
    "postgresql": {
        "late": ("id INT PRIMARY KEY DEFERRABLE, n INT", "the primary key of late is DEFERRABLE"),
        "made": ("n INT, id INT GENERATED ALWAYS AS (n + 1) STORED PRIMARY KEY", "computes the column id"),
        "star": ('"id*" INT PRIMARY KEY, n INT', "star:{id*} would name other columns"),
    },
    "sqlite": {"star": ('"id*" INT PRIMARY KEY, n INT', "star:{id*} would name other columns")},
}
#: What is left out of a function, or not, so that the file can be deployed.
FIT = {
    "postgresql": "id INT PRIMARY KEY, n INT GENERATED ALWAYS AS IDENTITY, m INT",
    "sqlite": "id INT PRIMARY KEY, m VARCHAR(10, 2)",
}


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_tables_that_take_no_rows_are_left_out(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    backend = make_url(url).get_backend_name()
    sql(url, f"CREATE TABLE fit ({FIT[backend]})")
    for table, (columns, _) in UNFIT[backend].items():
        sql(url, f"CREATE TABLE {table} ({columns})")
    if kind == "sqlite":
        sql(url, "CREATE VIRTUAL TABLE words USING fts5(text)")
    file = tmp_path / "a.toml"
    assert init(url, "--out", str(file)).exit_code == 0
    run("check", str(file))
    content = file.read_text("utf-8")
    head, _, tail = content.partition("# Left out:")
    assert (head.count("[[functions]]"), 'm = "m"' in head, 'n = "n"' in head) == (1, True, False)
    reasons = " ".join(tail.replace("#", " ").split())
    assert [reason for _, reason in UNFIT[backend].values() if reason not in reasons] == []


def test_a_table_in_another_case_is_not_there(sqlite_url: str, tmp_path: Path) -> None:
    sql(sqlite_url, "CREATE TABLE persons (id INT PRIMARY KEY, n INT)")
    file = tmp_path / "gearsync.toml"
    function = 'kind = "write-behind"\nkeys = "p:{id}"\ntable = "Persons"\ntarget = "a"\ncolumns = ["n"]\n'
    file.write_text(f'[targets.a]\nurl = "{sqlite_url}"\n[[functions]]\n{function}', "utf-8")
    said = json.loads(CliRunner().invoke(cli.group, ["check", str(file), "--json"]).stdout)["mistakes"]
    assert "there is no table Persons in the target's database; did you mean persons?" in said[0]["message"]


def test_what_can_not_be_done_is_said_and_nothing_is_written(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "gearsync.toml"
    missing = init(sqlite_url, "--out", str(file))
    assert (missing.exit_code, "there is no file" in missing.output) == (1, True)
    sql(sqlite_url, "CREATE TABLE persons (a INTEGER)")
    nothing = init(sqlite_url, "--out", str(file))
    assert (nothing.exit_code, "persons has no primary key" in nothing.output) == (1, True)
    sql(sqlite_url, "CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER)")
    typo = init(sqlite_url, "--out", str(file), "--table", "order")
    assert (typo.exit_code, "did you mean orders" in typo.output) == (1, True)
    assert not file.exists()
    file.write_text("mine", "utf-8")
    there = init(sqlite_url, "--out", str(file))
    assert (there.exit_code, file.read_text("utf-8")) == (1, "mine")
    assert init(sqlite_url, "--out", str(file), "--force").exit_code == 0
    assert "[[functions]]" in file.read_text("utf-8")


PERSON: dict[Any, Any] = {
    "firstName": "Zoë",
    "phone": "01701234567",
    "age": "41",
    "balance": "1234.50",
    "is_active": "1",
    "joined": "2026-11-21",
    "seen": "2026-11-21T10:00:00.250Z",
    "token": UUID,
    "prefs": '{"a": 1}',
    "raw": b"\xff\x00",
}
NAMES = "first_name, phone, age, balance, is_active, joined, seen, token, prefs, raw"


def hashes(client: redis.Redis) -> None:
    """Write two kinds of hashes, and one key that is of none."""
    for index in range(1, 21):
        client.hset(f"person:{index}", mapping={"id": index, **PERSON})
        client.hset(f"order:{index % 3}:{index}", mapping={"total": "9.50", "note": "x" * index})
    client.hset("config", "a", "1")


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite"])
def test_sampled_hashes_get_tables_that_take_them(
    kind: str, request: pytest.FixtureRequest, server: RedisServer, tmp_path: Path
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    order = "customer INTEGER, order_id INTEGER, total NUMERIC(8, 2), PRIMARY KEY (customer, order_id)"
    sql(url, f"CREATE TABLE orders ({order})")
    file = str(tmp_path / f"sampled_{kind}.toml")
    with server.client() as client:
        client.flushall()
        hashes(client)
    sampled = init(url, "--redis", server.url, "--sample", "1000", "--out", file)
    assert sampled.exit_code == 0, sampled.output
    assert "--create-tables --apply   # makes person" in sampled.output
    content = Path(file).read_text("utf-8")
    assert 'keys = "order:{customer}:{order_id}"' in content
    assert "Fields without a column: note." in content
    assert "config: no part of the key varies" in content
    printed = init("--from", file, "--redis", server.url, "--create-tables").output
    assert "CREATE TABLE person (" in printed
    made = init("--from", file, "--redis", server.url, "--create-tables", "--apply")
    assert "Created: person." in made.output
    again = init("--from", file, "--redis", server.url, "--create-tables", "--apply")
    assert "No table is missing." in again.output
    assert len(json.loads(run("check", file, "--json"))["functions"]) == 2
    with contextlib.closing(connect(url)) as connector:
        columns = connector.table("person").columns
        for field, column in zip(PERSON, NAMES.split(", ")):
            value = PERSON[field]
            columns[column].convert(value if isinstance(value, bytes) else str(value).encode())
    if kind == "postgres":
        run("deploy", file, "--redis", server.url)
        run("backfill", file, "--redis", server.url)
        run("wait", "--redis", server.url, "--deployment", "sampled_postgres")
        found = sql(url, f"SELECT {NAMES} FROM person ORDER BY id")
        assert len(found) == 20
        row = [str(each) for each in found[0][:-1]]
        assert row[:6] == ["Zoë", "01701234567", "41", "1234.50", "True", "2026-11-21"]
        assert (found[0][6].timestamp() % 1, *row[7:]) == (0.25, UUID, "{'a': 1}")
        assert bytes(found[0][-1]) == b"\xff\x00"
        assert sql(url, "SELECT count(*), sum(total) FROM orders") == [(20, 190)]


MEMBERS = """
from connectors import Target
from gears import WriteBehind

shop = Target("{url}")
WriteBehind("tags:{{id}}", "tags", {{"member": "tag"}}, shop, type="set")
WriteBehind("queue:{{id}}", "items", {{"index": "at", "value": "item"}}, shop, type="list")
WriteBehind("board:{{id}}", "scores", {{"member": "who", "score": "points"}}, shop, type="zset")
"""


def test_keys_of_many_members_get_their_tables(server: RedisServer, sqlite_url: str, tmp_path: Path) -> None:
    """The column of the member is in the primary key, and was in the table twice: a traceback."""
    file = str(tmp_path / "functions.py")
    Path(file).write_text(MEMBERS.format(url=sqlite_url), "utf-8")
    sql(sqlite_url, "CREATE TABLE beside (id INT PRIMARY KEY)")
    with server.client() as client:
        client.flushall()
        client.hset("beside:1", "name", "Ada")
    checked = CliRunner().invoke(cli.group, ["check", file])
    assert checked.exit_code == 1
    assert f"Try: gearsync init --from {file} --create-tables prints the SQL" in " ".join(
        checked.stderr.split()
    )
    made = init("--from", file, "--redis", server.url, "--create-tables", "--apply")
    assert "Created: tags, items, scores." in made.output
    with contextlib.closing(connect(sqlite_url)) as connector:
        assert connector.table("tags").primary_key == ("id", "tag")
        assert connector.table("items").columns["at"].convert(b"7") == 7
        assert connector.table("scores").columns["points"].convert(b"-1.5e300") == -1.5e300
    assert "No mistake was found." in run("check", file)


def test_models_get_their_tables(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gearsync_models_e.py").write_text(
        "import sqlalchemy as sa\n"
        "t = sa.Table('t', sa.MetaData(), sa.Column('id', sa.Integer, primary_key=True),"
        " sa.Column('n', sa.Integer, index=True))\n"
    )
    sql(sqlite_url, "CREATE TABLE other (id INTEGER PRIMARY KEY)")
    file = str(tmp_path / "gearsync.toml")
    arguments = (sqlite_url, "--models", "gearsync_models_e", "--create-tables", "--out", file, "--force")
    printed = init(*arguments)
    assert (printed.exit_code, "CREATE INDEX ix_t_n ON t (n);" in printed.output) == (0, True)
    assert init(*arguments, "--apply").exit_code == 0
    assert sql(sqlite_url, "SELECT id, n FROM t") == []
    run("check", file)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sqlite:///a.db", "--create-tables"),
        ("sqlite:///a.db", "--apply"),
        ("sqlite:///a.db", "--redis", "redis://127.0.0.1"),
        ("--models", "x", "--create-tables"),
        ("sqlite:///a.db", "--models", "x", "--sample", "9"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_said_at_once(arguments: tuple[str, ...]) -> None:
    assert init(*arguments).exit_code == 2
