"""Rows of a function as the hashes that they are in Redis, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors import Connector, SchemaMismatch, Target, connect
from gears.applying.images import RowReader
from gears.declaring.declarations import ReadThrough
from gears.declaring.errors import KeyPartError
from gears.declaring.functions import Function
from tests.servers import run_sql


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def connector(url: str) -> Iterator[Connector]:
    run_sql(
        url,
        "CREATE TABLE members (team VARCHAR(9), n INT, name VARCHAR(20), age INT, note VARCHAR(9), "
        "PRIMARY KEY (n, team))",
    )
    run_sql(url, "INSERT INTO members VALUES ('a', 1, 'Ada', 36, NULL), ('a', 2, '', NULL, NULL)")
    run_sql(url, "INSERT INTO members VALUES ('a', 3, NULL, NULL, 'x'), ('b:c', 1, 'Bo', 7, NULL)")
    connector = connect(url)
    yield connector
    connector.close()


def function(keys: str = "member:{team}:{n}", **columns: str) -> Function:
    declared = ReadThrough(
        keys=keys,
        table="members",
        columns=columns or {"name": "name", "years": "age"},
        target=Target("env:DB_URL"),
    )
    assert declared.function is not None
    return declared.function


def test_rows_as_fields(connector: Connector) -> None:
    reader = RowReader(function(), connector)
    assert reader.read(
        [b"member:a:1", b"member:a:2", b"member:a:3", b"member:a:4", b"member:a:01", b"member:a:1"]
    ) == {
        b"member:a:1": {b"name": b"Ada", b"years": b"36"},
        b"member:a:2": {b"name": b""},
        b"member:a:3": {},
        b"member:a:4": None,
        b"member:a:01": {b"name": b"Ada", b"years": b"36"},
    }
    assert reader.read([]) == {}


@pytest.mark.parametrize(
    "key",
    [
        b"member:a:x",
        b"member:a:99999999999",
        b"member:aaaaaaaaaa:1",
        b"other",
        b"member:\xff:1",
        b"member:a\0:1",
    ],
)
def test_a_key_that_fits_no_column_has_no_row(connector: Connector, key: bytes) -> None:
    assert RowReader(function(), connector).read([key, b"member:a:1"])[key] is None


def test_keys_of_rows(connector: Connector) -> None:
    reader = RowReader(function(), connector)
    rows = reader.scan(None, "", 9)
    assert [parts for parts, _ in rows] == [(b"1", b"a"), (b"1", b"b:c"), (b"2", b"a"), (b"3", b"a")]
    assert rows[0][1] == {b"name": b"Ada", b"years": b"36"}
    assert reader.key_of(rows[0][0]) == b"member:a:1"
    with pytest.raises(KeyPartError, match="team holds ':'"):
        reader.key_of(rows[1][0])
    assert reader.scan(rows[1][0], "age IS NULL", 1) == [((b"2", b"a"), {b"name": b""})]


def test_a_table_that_does_not_fit(connector: Connector) -> None:
    with pytest.raises(SchemaMismatch, match="no column height, which function members read-through needs"):
        RowReader(function(tall="height"), connector)
    with pytest.raises(SchemaMismatch, match="the primary key of table members"):
        RowReader(function("member:{n}"), connector)
