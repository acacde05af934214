"""Checksums of rows are the same here and in the database, and values that only it can write are told."""

from __future__ import annotations

import pytest

from connectors import Connector, RowOp, Target, connect
from deploy.verifying.expected import DIFFERS, Difference, Expecter
from gears.declaring.declarations import WriteBehind
from tests.servers import run_sql

COLUMNS = {
    "postgres": {
        "whole": ("INTEGER", [b"12", b"-3"]),
        "price": ("NUMERIC(10, 2)", [b"1.5", b"7"]),
        "ratio": ("DOUBLE PRECISION", [b"0.25", b"-1.5"]),
        "good": ("BOOLEAN", [b"1", b"false"]),
        "day": ("DATE", [b"2024-01-31", b"1999-12-31"]),
        "at": ("TIMESTAMPTZ", [b"2024-01-31T10:00:00+00:00", b"2024-01-31T10:00:00.123456Z"]),
        "seen": ("TIMESTAMP", [b"2024-01-31T10:00:00", b"2024-01-31 10:00:00.5"]),
        "name": ("TEXT", ["\u00e9:,".encode(), b""]),
        "raw": ("BYTEA", [b"\xff\x00", b""]),
        "id": ("UUID", [b"01234567-89ab-cdef-0123-456789abcdef"] * 2),
    },
    "mariadb": {
        "whole": ("INT", [b"12", b"-3"]),
        "price": ("DECIMAL(10, 2)", [b"1.5", b"7"]),
        "ratio": ("DOUBLE", [b"0.25", b"-1.5"]),
        "good": ("BOOLEAN", [b"1", b"0"]),
        "day": ("DATE", [b"2024-01-31", b"1999-12-31"]),
        "seen": ("DATETIME", [b"2024-01-31T10:00:00", b"2024-01-31T10:00:00Z"]),
        "name": ("VARCHAR(20)", ["\u00e9:,".encode(), b""]),
        "raw": ("BLOB", [b"\xff\x00", b""]),
    },
}


def write(connector: Connector, columns: list[str], images: list[list[bytes | None]]) -> None:
    """Write rows with the numbers 0, 1, … as the worker does."""
    table = connector.table("things")
    rows = []
    for number, image in enumerate(images):
        values = [table.columns[name].convert(value) for name, value in zip(columns, image)]
        rows.append(RowOp("things", "upsert", (number,), ("n", *columns), (number, *values)))
    connector.write(rows, lambda refusals: pytest.fail(str(refusals)), lambda row: ())


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_the_database_makes_the_same_checksum(kind: str, request: pytest.FixtureRequest) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    columns = COLUMNS[kind]
    declared = ", ".join(f"{name} {type_}" for name, (type_, _) in columns.items())
    run_sql(url, f"CREATE TABLE things (n INT PRIMARY KEY, {declared})")
    connector = connect(url)
    try:
        images: list[list[bytes | None]] = [[values[at] for _, values in columns.values()] for at in range(2)]
        images.append([None] * len(columns))
        write(connector, list(columns), images)
        sums = connector.checksums("things", list(columns))
        assert sums is not None
        places = [(2,), (0,), (1,)]
        arranged = [images[at] for (at,) in places]
        assert sums.local(places, arranged) == sums.remote(places)
        for at, name in enumerate(columns):
            run_sql(url, f"UPDATE things SET {name} = NULL WHERE n = 0")
            assert sums.local(places, arranged) != sums.remote(places)
            images[0][at] = None
            assert sums.local(places, arranged) == sums.remote(places)
    finally:
        connector.close()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_the_database_makes_the_same_checksum_of_all_rows_of_some_keys(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    run_sql(
        url,
        "CREATE TABLE scores (player VARCHAR(9), game VARCHAR(9), id INT, points DOUBLE PRECISION, "
        "PRIMARY KEY (player, id, game))",
    )
    run_sql(
        url,
        "INSERT INTO scores VALUES ('b', 'go', 1, 2), ('a', 'go', 1, 0.5), ('\u00e9', 'go', 2, -3), "
        "('B', 'chess', 1, 1), ('a', 'go', 3, 9)",
    )
    connector = connect(url)
    try:
        columns = ["game", "id", "player", "points"]
        sums = connector.child_checksums("scores", columns[:2], columns)
        assert sums is not None
        texts = (b"go 1 a 0.5", b"chess 1 B 1", "go 2 \u00e9 -3".encode(), b"go 1 b 2")
        mine = [text.split() for text in texts]
        keys = [("go", 1), ("go", 2), ("chess", 1), ("nothing", 5)]
        assert sums.local(mine) == sums.remote(keys)
        found = connector.children("scores", columns[:2], keys, columns[2:])
        assert sorted(row[:3] for row in found) == sorted(tuple(row[:3]) for row in mine)
        run_sql(url, "INSERT INTO scores VALUES ('c', 'go', 1, 2)")
        assert sums.local(mine) != sums.remote(keys)
    finally:
        connector.close()


WRITTEN = {
    "tags": (b"{1, 2}", b"{1, 3}"),
    "host": (b"10.0.0.1/32", b"10.0.0.2"),
    "span": (b"90 minutes", b"91 minutes"),
}


def test_what_only_the_database_can_write_is_compared_as_it_writes_it(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE things (n INT PRIMARY KEY, tags INT[], host INET, span INTERVAL)")
    columns = list(WRITTEN)
    declared = WriteBehind(keys="thing:{n}", table="things", columns=columns, target=Target("env:X")).function
    assert declared is not None
    connector = connect(postgres_url)
    try:
        write(connector, columns, [[value for value, _ in WRITTEN.values()]])
        expecter = Expecter(declared, None, connector, "d")
        (row,) = connector.read("things", [(0,)], columns)
        same = expecter.expect(b"thing:0", [value for value, _ in WRITTEN.values()])
        assert expecter.difference(same, row) is None
        other = expecter.expect(b"thing:0", [value for _, value in WRITTEN.values()])
        assert expecter.difference(other, row) == Difference(DIFFERS, tuple(columns))
    finally:
        connector.close()
