"""What is in Redis is in SQL, or a refusal says why: for each type on each database.

The values of a type, in the forms a hash may hold them, must all arrive; any other bytes must arrive
unchanged or be refused.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import struct
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import ConversionError, RowOp, connect
from tests.form import SOAK
from tests.integration.connectors.conftest import Database

UTC = datetime.timezone.utc
SERVERS = {"postgresql": "postgres", "mysql": "mariadb"}
DATABASES = ("postgresql", "mysql", "sqlite")


class Case(NamedTuple):
    """A type: how it is declared, what a hash may hold of it, and how the two sides compare.

    ``read`` makes a value out of the bytes in Redis, ``found`` one out of what SQL gives back for ``select``.
    ``padded``: blanks at the end mean nothing.
    """

    declared: dict[str, str]
    values: st.SearchStrategy[bytes]
    read: Callable[[bytes], Any]
    found: Callable[[Any], Any] = lambda value: value
    select: str = "v"
    padded: bool = False


def everywhere(declared: str) -> dict[str, str]:
    return dict.fromkeys(DATABASES, declared)


def whole(low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0])).map(lambda n: b"%d" % n)


def texts(limit: int, nul: bool = False) -> st.SearchStrategy[bytes]:
    characters = st.characters(codec="utf-8", exclude_characters="" if nul else "\0")
    likely = st.sampled_from(list("'\"\\%{},:\n\t ;NULä😀"))
    return st.text(st.one_of(characters, likely), max_size=limit).map(str.encode)


def decimals(scale: int, top: int) -> st.SearchStrategy[bytes]:
    return st.decimals(-top, top, places=scale).map(lambda number: str(number).encode())


#: 206711010000 is refused: it may be meant as 2067-11-01 00:00.
DATE_RUN_TOGETHER = re.compile(r"20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[0-9]{4}")


def moments(low: int, high: int, digits: int) -> st.SearchStrategy[bytes]:
    """Timestamps of all forms that a hash may hold, between two years."""
    naive = st.datetimes(datetime.datetime(low, 1, 2), datetime.datetime(high, 12, 30))
    step = 10 ** (6 - digits)
    kept = naive.map(lambda each: each.replace(microsecond=each.microsecond // step * step))
    zones = st.integers(-14 * 60, 14 * 60).map(lambda n: datetime.timezone(datetime.timedelta(minutes=n)))
    forms = [
        kept.map(lambda each: each.isoformat()),
        kept.map(lambda each: each.isoformat(" ") + "Z"),
        st.tuples(kept, zones).map(lambda pair: pair[0].replace(tzinfo=pair[1]).isoformat()),
        st.integers(2 * 10**8, 2 * 10**9).map(str),
        st.integers(2 * 10**11 + 10**8, 2 * 10**12)
        .map(lambda n: str(n // 1000 * 1000))
        .filter(lambda text: not DATE_RUN_TOGETHER.fullmatch(text)),
    ]
    return st.one_of(forms).map(str.encode)


def utc(value: bytes) -> datetime.datetime:
    """Read a timestamp as the documentation says: independently of the converter."""
    text = value.decode()
    if text.lstrip("-").isdigit():
        seconds = int(text) / (1000 if abs(int(text)) >= 10**11 else 1)
        return datetime.datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def found_moment(value: Any) -> Any:
    moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def single(value: Any) -> float:
    number: float = struct.unpack("f", struct.pack("f", float(value)))[0]
    return number


def decimal(value: bytes) -> Decimal:
    return Decimal(value.decode())


def found_decimal(value: Any) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def found_json(value: Any) -> Any:
    return read_json(value) if isinstance(value, str) else value


def read_json(value: bytes | str) -> Any:
    """Read JSON with its numbers exactly as they are written."""
    return json.loads(value, parse_float=Decimal, parse_int=Decimal)


DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**9), 10**9),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab'\"\\", max_size=3), inner)
    ),
    max_leaves=5,
)

CASES = {
    "smallint": Case({"postgresql": "SMALLINT", "mysql": "SMALLINT"}, whole(-(2**15), 2**15 - 1), int),
    "int": Case(everywhere("INT"), whole(-(2**31), 2**31 - 1), int),
    "bigint": Case(everywhere("BIGINT"), whole(-(2**63), 2**63 - 1), int),
    "tinyint": Case({"mysql": "TINYINT"}, whole(-128, 127), int),
    "mediumint": Case({"mysql": "MEDIUMINT"}, whole(-(2**23), 2**23 - 1), int),
    "unsigned": Case({"mysql": "BIGINT UNSIGNED"}, whole(0, 2**64 - 1), int),
    "int unsigned": Case({"mysql": "INT UNSIGNED"}, whole(0, 2**32 - 1), int),
    "year": Case({"mysql": "YEAR"}, st.integers(1901, 2155).map(lambda n: b"%d" % n), int),
    "bit": Case({"mysql": "BIT(12)"}, whole(0, 4095), int, select="v + 0"),
    "numeric": Case(everywhere("NUMERIC(12, 3)"), decimals(3, 10**8), decimal, found_decimal),
    "numeric without limits": Case(
        {"postgresql": "NUMERIC"},
        st.decimals(allow_infinity=False, allow_nan=False).map(lambda n: str(n).encode()),
        decimal,
    ),
    "double": Case(everywhere("DOUBLE PRECISION"), DOUBLES.map(lambda n: repr(n).encode()), float),
    "real": Case(
        {"postgresql": "REAL"},
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).map(
            lambda n: repr(n).encode()
        ),
        single,
        single,
    ),
    "float of MySQL": Case(
        {"mysql": "FLOAT"},
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).map(
            lambda n: repr(n).encode()
        ),
        single,
        single,
        # Shown as it is, it would be cut to six digits.
        "v + 0E0",
    ),
    "boolean": Case(
        everywhere("BOOLEAN"),
        st.sampled_from([b"1", b"0", b"true", b"FALSE", b"True"]),
        lambda value: value.lower() in (b"1", b"true"),
        bool,
    ),
    "varchar": Case(everywhere("VARCHAR(12)"), texts(12), bytes.decode),
    "varchar with NUL": Case(
        {"mysql": "VARCHAR(12)", "sqlite": "VARCHAR(12)"}, texts(12, True), bytes.decode
    ),
    "text": Case(everywhere("TEXT"), texts(40), bytes.decode),
    "char": Case(
        everywhere("CHAR(8)"),
        texts(8),
        lambda value: value.decode().rstrip(" "),
        lambda value: value.rstrip(" "),
        padded=True,
    ),
    "tinytext": Case({"mysql": "TINYTEXT"}, texts(60), bytes.decode),
    "bytes": Case(
        {"postgresql": "BYTEA", "mysql": "BLOB", "sqlite": "BLOB"}, st.binary(max_size=40), bytes, bytes
    ),
    "varbinary": Case({"mysql": "VARBINARY(12)"}, st.binary(max_size=12), bytes),
    "binary": Case({"mysql": "BINARY(4)"}, st.binary(min_size=4, max_size=4), bytes),
    "date": Case(
        everywhere("DATE"),
        st.dates(datetime.date(1000, 1, 1)).map(lambda day: day.isoformat().encode()),
        lambda value: datetime.date.fromisoformat(value.decode()),
        lambda value: datetime.date.fromisoformat(value) if isinstance(value, str) else value,
    ),
    "time": Case(
        {"postgresql": "TIME", "sqlite": "TIME"},
        st.times().map(lambda each: each.isoformat().encode()),
        lambda value: datetime.time.fromisoformat(value.decode()),
        lambda value: datetime.time.fromisoformat(value) if isinstance(value, str) else value,
    ),
    "time of MySQL": Case(
        {"mysql": "TIME(6)"},
        st.timedeltas(datetime.timedelta(0), datetime.timedelta(hours=838)).map(
            lambda each: _clock(each).encode()
        ),
        lambda value: value.decode(),
        lambda value: _clock(value) if isinstance(value, datetime.timedelta) else _without_zeros(value),
    ),
    "timestamp": Case(
        {"postgresql": "TIMESTAMP", "mysql": "DATETIME(6)", "sqlite": "DATETIME"},
        moments(1000, 9999, 6),
        utc,
        found_moment,
    ),
    "timestamp of seconds": Case(
        {"postgresql": "TIMESTAMP(0)", "mysql": "DATETIME"}, moments(1000, 9999, 0), utc, found_moment
    ),
    "timestamp with zone": Case(
        {"postgresql": "TIMESTAMPTZ", "mysql": "TIMESTAMP(6) NULL"}, moments(1971, 2037, 6), utc, found_moment
    ),
    "json": Case(
        {"postgresql": "JSON", "mysql": "JSON", "sqlite": "JSON"},
        DOCUMENTS.map(lambda document: json.dumps(document).encode()),
        read_json,
        found_json,
        "CAST(v AS CHAR(9999))",
    ),
    "jsonb": Case(
        {"postgresql": "JSONB"},
        DOCUMENTS.map(lambda document: json.dumps(document, ensure_ascii=False).encode()),
        read_json,
        found_json,
        "CAST(v AS CHAR(9999))",
    ),
    "uuid": Case(
        {"postgresql": "UUID", "sqlite": "UUID", "mysql": "UUID"},
        st.uuids(version=4).map(lambda each: str(each).upper().encode()),
        lambda value: uuid.UUID(value.decode()),
        lambda value: uuid.UUID(str(value)),
    ),
    "enum": Case(
        {"postgresql": "mood", "mysql": "ENUM('sad', 'o''k', 'größe')"},
        st.sampled_from(["sad", "o'k", "größe"]).map(str.encode),
        bytes.decode,
    ),
    "set": Case(
        {"mysql": "SET('a', 'b', 'c')"},
        st.lists(st.sampled_from("abc"), unique=True).map(lambda labels: ",".join(labels).encode()),
        lambda value: set(value.decode().split(",")),
        lambda value: set(value.split(",")),
    ),
    "inet": Case(
        {"postgresql": "INET"}, st.ip_addresses().map(lambda each: str(each).encode()), bytes.decode, str
    ),
}


def _array(labels: list[str]) -> bytes:
    escaped = (label.replace("\\", "\\\\").replace('"', '\\"') for label in labels)
    return ("{" + ",".join(f'"{label}"' for label in escaped) + "}").encode()


#: Types whose values PostgreSQL judges, and writes in a form of its own.
JUDGED = {
    "text[]": st.lists(st.text("ab\"\\{},' ä", max_size=4), max_size=4).map(_array),
    "bytea[]": st.lists(st.binary(max_size=4), max_size=3).map(
        lambda every: _array([f"\\x{each.hex()}" for each in every])
    ),
    "timestamptz[]": st.lists(st.datetimes(datetime.datetime(1900, 1, 1)), max_size=3).map(
        lambda every: _array([each.isoformat() for each in every])
    ),
    "interval": st.timedeltas(datetime.timedelta(-40000), datetime.timedelta(40000)).map(
        lambda each: f"{each.days} days {each.seconds}.{each.microseconds:06} seconds".encode()
    ),
    "timetz": st.tuples(st.times(), st.integers(-14 * 60, 14 * 60)).map(
        lambda pair: pair[0].isoformat().encode() + _offset(pair[1])
    ),
    "money": decimals(2, 10**12),
    "bit varying(20)": st.text("01", min_size=1, max_size=20).map(str.encode),
    "int4range": st.tuples(st.integers(-9, 9), st.integers(10, 99)).map(lambda pair: b"[%d,%d)" % pair),
    "point": st.tuples(DOUBLES, DOUBLES).map(lambda pair: f"({pair[0]!r},{pair[1]!r})".encode()),
    "positive": st.integers(1, 2**31 - 1).map(lambda n: b"%d" % n),
    "blob": st.binary(max_size=9),
    "person": st.integers(0, 99).map(lambda n: b'(%d,"a ""b"" (c)")' % n),
    '"char"': st.sampled_from([b"a", b"~"]),
}


def _offset(minutes: int) -> bytes:
    return b"%s%02d:%02d" % (b"-" if minutes < 0 else b"+", *divmod(abs(minutes), 60))


def _clock(value: datetime.timedelta) -> str:
    seconds = value.days * 86400 + value.seconds
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return _without_zeros(f"{text}.{value.microseconds:06}")


def _without_zeros(clock: str) -> str:
    return clock.rstrip("0").rstrip(".") if "." in clock else clock


PAIRS = [(name, database) for name, case in CASES.items() for database in case.declared]
QUICK = settings(
    max_examples=100 if SOAK else 6,
    deadline=None,
    database=None,
)
#: Bytes of every kind, and such that nearly fit.
HOSTILE = st.one_of(
    st.binary(max_size=20),
    st.text("0123456789+-.:TZeE ,_/abNnif\0ä", max_size=24).map(str.encode),
    *(case.values for case in CASES.values()),
)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function from a kind of database to the one that all tests here share."""
    made: dict[str, Database] = {}

    def of(kind: str) -> Database:
        if kind not in made:
            made[kind] = _open(kind, request, tmp_path_factory)
        return made[kind]

    yield of
    for database in made.values():
        database.connector.close()
        if database.backend != "sqlite":
            request.getfixturevalue(SERVERS[database.backend]).drop_database(database.url)


def _open(kind: str, request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Database:
    if kind == "sqlite":
        url = f"sqlite:///{folders.mktemp('round')}/trips.sqlite"
    else:
        url = request.getfixturevalue(SERVERS[kind]).create_database()
    database = Database(url, connect(url))
    if kind == "postgresql":
        database.sql("CREATE TYPE mood AS ENUM ('sad', 'o''k', 'größe')")
        database.sql("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
        database.sql("CREATE DOMAIN blob AS bytea")
        database.sql("CREATE TYPE person AS (age int, name text)")
    return database


@pytest.fixture
def fresh(request: pytest.FixtureRequest, databases: Any) -> Any:
    """The database that the test's parameter names."""
    database = databases(request.getfixturevalue("kind"))
    database.refusals.clear()
    database.connector.forget_tables()
    return database


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_round_trip(name: str, kind: str, fresh: Any) -> None:
    case = CASES[name]
    _create(fresh, case, name)
    values_of = st.lists(case.values, min_size=1, max_size=25)

    @QUICK
    @given(values_of)
    def every_value_arrives(values: list[bytes]) -> None:
        rows = [fresh.upsert("t", {"id": i, "v": value}) for i, value in enumerate(values)]
        fresh.apply(RowOp("t", "clear"), *rows)
        assert fresh.refusals == []
        back = _read_back(fresh, case)
        for i, value in enumerate(values):
            assert case.found(back[i]) == case.read(value)

    every_value_arrives()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_anything_arrives_or_is_refused(name: str, kind: str, fresh: Any) -> None:
    case = CASES[name]
    _create(fresh, case, name)
    convert = fresh.connector.table("t").columns["v"].convert

    @QUICK
    @given(st.lists(HOSTILE, min_size=1, max_size=25))
    def arrives_or_is_refused(values: list[bytes]) -> None:
        fresh.refusals.clear()
        rows = {}
        for i, value in enumerate(values):
            try:
                rows[i] = RowOp("t", "upsert", (i,), ("id", "v"), (i, convert(value)))
            except ConversionError as error:
                assert str(error)
        fresh.apply(RowOp("t", "clear"), *rows.values())
        assert all(refusal.reason for refusal in fresh.refusals)
        refused = {refusal.row.key[0] for refusal in fresh.refusals}
        back = _read_back(fresh, case)
        assert set(back) == set(rows) - refused
        for i, value in back.items():
            assert _same(case, case.found(value), rows[i].values[1])

    arrives_or_is_refused()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_way_back(name: str, kind: str, fresh: Any) -> None:
    """What is read of a row, written to it again, changes nothing."""
    _create(fresh, CASES[name], name)
    _there_and_back(fresh, CASES[name].values, f"SELECT id, {CASES[name].select} FROM t")


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("declared", JUDGED)
def test_the_way_back_of_what_the_database_judges(declared: str, kind: str, fresh: Any) -> None:
    fresh.sql("DROP TABLE IF EXISTS t")
    fresh.sql(f"CREATE TABLE t (id INT PRIMARY KEY, v {declared})")
    _there_and_back(fresh, JUDGED[declared], "SELECT id, v::text FROM t")


def _there_and_back(database: Any, strategy: st.SearchStrategy[bytes], found: str) -> None:
    @QUICK
    @given(st.lists(st.one_of(st.none(), strategy), min_size=1, max_size=25))
    def there_and_back(values: list[bytes | None]) -> None:
        rows = [database.upsert("t", {"id": i, "v": value}) for i, value in enumerate(values)]
        database.apply(RowOp("t", "clear"), *rows)
        assert database.refusals == []
        there = database.sql(found)
        texts = [row[0] for row in database.connector.read("t", [row.key for row in rows], ["v"])]
        assert [text is None for text in texts] == [value is None for value in values]
        again = [database.upsert("t", {"id": i, "v": text}) for i, text in enumerate(texts)]
        database.apply(RowOp("t", "clear"), *again)
        assert database.refusals == []
        assert database.sql(found) == there
        assert [row[1] for row in database.connector.scan("t", ["v"])] == texts

    there_and_back()


def _create(database: Any, case: Case, name: str) -> None:
    declared = case.declared[database.backend]
    if declared == "UUID" and database.backend == "mysql":
        said = database.sql("SELECT VERSION()")[0][0]
        if "MariaDB" not in said or tuple(map(int, said.split(".")[:2])) < (10, 7):
            pytest.skip("only MariaDB 10.7 and later has UUID")
    database.sql("DROP TABLE IF EXISTS t")
    database.sql(f"CREATE TABLE t (id INT PRIMARY KEY, v {declared})")


def _read_back(database: Any, case: Case) -> dict[int, Any]:
    return dict(database.sql(f"SELECT id, {case.select} FROM t"))


def _same(case: Case, found: Any, written: Any) -> bool:
    """Compare what SQL holds with what the converter made of the bytes, in the terms of the type."""
    if isinstance(found, datetime.datetime):
        return bool(found == found_moment(written))
    if isinstance(found, float) and math.isnan(found):
        return math.isnan(float(written))
    if isinstance(found, str) and isinstance(written, str) and case.padded:
        written = written.rstrip(" ")
    expected = case.found(written)
    if isinstance(found, Decimal) and found.is_nan():
        return bool(expected.is_nan())
    return bool(found == expected)
