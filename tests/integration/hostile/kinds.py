"""Each kind of column: its type in each database, values that fit and that don't, and how it is read back."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from tests.integration.hostile import numbers, texts, times
from tests.integration.hostile.values import Made

UTC = datetime.timezone.utc


class Kind(NamedTuple):
    """A kind of column: its type in each database, values that fit and that don't, and how to read it."""

    declared: dict[str, str]
    good: Made
    bad: Made
    read: Callable[[Any], Any]
    select: str = "{}"


def _decimal(value: Any) -> Any:
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return "NaN" if number.is_nan() else number


def _moment(value: Any) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _clock(value: Any) -> datetime.time:
    if isinstance(value, datetime.timedelta):
        return (datetime.datetime.min + value).time()
    return datetime.time.fromisoformat(value) if isinstance(value, str) else value


def _document(value: Any) -> Any:
    # SQLite keeps a document that is a number as a number.
    return value if isinstance(value, (int, float)) else json.loads(value)


#: The databases, by the names of their fixtures.
EVERYWHERE = ("postgres", "mariadb", "sqlite")


def _same(declared: str, *databases: str) -> dict[str, str]:
    return dict.fromkeys(databases or EVERYWHERE, declared)


KINDS = {
    "smallint": Kind(_same("SMALLINT", "postgres", "mariadb"), *numbers.whole(-(2**15), 2**15 - 1), int),
    "int": Kind(_same("INT", "postgres", "mariadb"), *numbers.whole(-(2**31), 2**31 - 1), int),
    "bigint": Kind(_same("BIGINT"), *numbers.whole(-(2**63), 2**63 - 1), int),
    "tiny": Kind(_same("TINYINT", "mariadb"), *numbers.whole(-128, 127), int),
    "tiny unsigned": Kind(_same("TINYINT UNSIGNED", "mariadb"), *numbers.whole(0, 255), int),
    "medium": Kind(_same("MEDIUMINT", "mariadb"), *numbers.whole(-(2**23), 2**23 - 1), int),
    "int unsigned": Kind(_same("INT UNSIGNED", "mariadb"), *numbers.whole(0, 2**32 - 1), int),
    "big unsigned": Kind(_same("BIGINT UNSIGNED", "mariadb"), *numbers.whole(0, 2**64 - 1), int),
    "numeric": Kind(_same("NUMERIC(10, 3)"), *numbers.fixed(7, 3), _decimal),
    "wide numeric": Kind(_same("NUMERIC(38, 10)", "postgres", "mariadb"), *numbers.fixed(28, 10), _decimal),
    "free numeric": Kind(
        _same("NUMERIC", "postgres", "sqlite"), numbers.free_number, numbers.bad_free_number, _decimal
    ),
    "double": Kind(_same("DOUBLE PRECISION"), numbers.double, numbers.bad_double, float),
    "real": Kind(_same("REAL", "postgres"), numbers.single, numbers.bad_single, numbers.as_single),
    "float": Kind(
        _same("FLOAT", "mariadb"), numbers.single, numbers.bad_single, numbers.as_single, "{} + 0E0"
    ),
    "boolean": Kind(_same("BOOLEAN"), numbers.boolean, numbers.bad_boolean, int),
    "varchar": Kind(_same("VARCHAR(10)"), *texts.text(10), str),
    "text": Kind({**_same("TEXT"), "mariadb": "LONGTEXT"}, *texts.text(2000), str),
    "bytes": Kind(
        {"postgres": "BYTEA", "mariadb": "LONGBLOB", "sqlite": "BLOB"}, texts.binary, texts.binary, bytes
    ),
    "date": Kind(
        _same("DATE"),
        times.day,
        times.bad_day,
        lambda v: datetime.date.fromisoformat(v) if isinstance(v, str) else v,
    ),
    "time": Kind(
        {"postgres": "TIME", "mariadb": "TIME(6)", "sqlite": "TIME"}, times.clock, times.bad_clock, _clock
    ),
    "timestamp": Kind(
        {"postgres": "TIMESTAMP", "mariadb": "DATETIME(6)", "sqlite": "DATETIME"},
        *(times.moments(1000, 9999), times.bad_moment, _moment),
    ),
    "instant": Kind(
        {"postgres": "TIMESTAMPTZ", "mariadb": "TIMESTAMP(6) NULL"},
        times.moments(1973, 2037),
        times.bad_instant,
        _moment,
    ),
    "json": Kind(_same("JSON"), texts.document, texts.bad_document, _document, "CAST({} AS CHAR(9999))"),
    "jsonb": Kind(
        _same("JSONB", "postgres"), texts.document, texts.bad_binary_document, json.loads, "CAST({} AS TEXT)"
    ),
    "uuid": Kind(_same("UUID"), texts.unique_id, texts.bad_unique_id, lambda v: uuid.UUID(str(v))),
    "enum": Kind({"postgres": "mood", "mariadb": "ENUM(%s)"}, texts.label, texts.bad_label, str),
    "inet": Kind(_same("INET", "postgres"), texts.address, texts.bad_address, str, "host({})"),
    "array": Kind(_same("INT[]", "postgres"), texts.array, texts.bad_array, list),
}


def same(held: Any, found: Any) -> bool:
    """Whether the column holds what it must; NaN equals NaN."""
    if isinstance(held, float) and math.isnan(held):
        return isinstance(found, float) and math.isnan(found)
    return type(held) is type(found) and bool(held == found)
