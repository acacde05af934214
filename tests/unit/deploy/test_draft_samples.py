"""What sampled keys and values are taken for: templates that cover them, columns that take them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql

from connectors import Column, Table, connect
from connectors.values.types import integer, text
from deploy.drafts import clusters, matching, proposals
from deploy.drafts.columns import column_for, key_column_for
from deploy.drafts.kinds import Profile
from deploy.drafts.samples import Kind, kinds_of
from gears.declaring.template import Template

CONNECTORS = {
    "postgresql": connect("postgresql://nobody@127.0.0.1/nothing"),
    "mysql": connect("mysql://nobody@127.0.0.1/nothing"),
    "sqlite": connect("sqlite:////nowhere/nothing"),
}
#: What a dialect makes of a type that it lacks, and reflects.
REFLECTED: dict[str, dict[type, Any]] = {"mysql": {sa.Boolean: mysql.TINYINT(1)}}

VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=300).filter(lambda each: each.isprintable()).map(str.encode),
    st.integers().map(lambda each: b"%d" % each),
    st.integers(-10, 10**20).map(lambda each: b"%d" % each),
    st.floats().map(lambda each: repr(each).encode()),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda each: str(each).encode()),
    st.dates().map(lambda each: each.isoformat().encode()),
    st.datetimes().map(lambda each: each.isoformat().encode()),
    st.datetimes(timezones=st.timezones()).map(lambda each: each.isoformat().encode()),
    st.uuids().map(lambda each: str(each).encode()),
    st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda each: repr(each).encode()),
    st.sampled_from([b"true", b"no", b"t", b"0", b"1", b"007", b"+49170", b"{}", b'["a"]', b"-0", b"1e5"]),
)


def convert(backend: str, type_: Any) -> Callable[[object], Any]:
    """Return the converter of the connector for a column of a type."""
    reflected = REFLECTED.get(backend, {}).get(type(type_), type_)
    return CONNECTORS[backend]._converter(reflected)


def type_text(values: list[bytes], name: str = "x", backend: str = "postgresql") -> str:
    dialect = CONNECTORS[backend]._engine.dialect
    return str(column_for(Profile(values), name, backend).type.compile(dialect))


@settings(max_examples=150)
@given(st.lists(VALUES, min_size=1, max_size=4) | VALUES.flatmap(lambda one: st.just([one])))
def test_every_sampled_value_fits_its_column(values: list[bytes]) -> None:
    profile = Profile(values)
    for backend in CONNECTORS:
        takes = convert(backend, column_for(profile, "x", backend).type)
        for value in values:
            takes(value)


@settings(max_examples=60)
@given(st.lists(VALUES.filter(lambda each: each.decode("utf-8", "ignore").encode() == each), min_size=1))
def test_every_part_of_a_key_fits_its_column(values: list[bytes]) -> None:
    values = [value for value in values if value and b"\0" not in value] or [b"x"]
    profile = Profile(values)
    for backend in CONNECTORS:
        takes = convert(backend, key_column_for(profile, backend).type)
        assert len({takes(value) for value in values}) == len(set(values)), "two keys would share a row"


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (["1", "-7"], "x", "INTEGER"),
        (["1", "3000000000"], "x", "BIGINT"),
        (["1", str(10**25)], "x", "NUMERIC(30, 0)"),
        (["1.50", "20"], "x", "NUMERIC(12, 2)"),
        (["0.30000000000000004"], "x", "DOUBLE PRECISION"),
        (["1e5", "2"], "x", "DOUBLE PRECISION"),
        (["true", "False"], "x", "BOOLEAN"),
        (["yes"], "x", "VARCHAR(32)"),
        (["yes", "no"], "x", "BOOLEAN"),
        (["f"], "x", "VARCHAR(32)"),
        (["0", "1"], "x", "INTEGER"),
        (["0", "1"], "is_active", "BOOLEAN"),
        (["0123"], "x", "VARCHAR(32)"),
        (["+491701234567"], "x", "VARCHAR(32)"),
        (["491701234567"], "phone", "VARCHAR(32)"),
        (["10115"], "zip", "VARCHAR(32)"),
        (["1790000000"], "created_at", "BIGINT"),
        (["2026-11-21"], "x", "DATE"),
        (["2026-02-30"], "x", "VARCHAR(32)"),
        (["2026-11-21 10:00:00"], "x", "TIMESTAMP WITHOUT TIME ZONE"),
        (["2026-11-21T10:00:00Z"], "x", "TIMESTAMP WITH TIME ZONE"),
        (["2026-11-21", "2026-11-21T10:00:00Z"], "x", "VARCHAR(64)"),
        ([str(uuid.UUID(int=7))], "x", "UUID"),
        (['{"a": 1}', "[]"], "x", "JSONB"),
        (['{"a": "\\u0000"}'], "x", "VARCHAR(32)"),
        (["1", ""], "x", "VARCHAR(32)"),
        (["1", "n/a"], "x", "VARCHAR(32)"),
        (["x" * 200], "x", "TEXT"),
        ([b"\xff"], "x", "BYTEA"),
    ],
)
def test_types_by_values(values: list[str | bytes], name: str, expected: str) -> None:
    assert type_text([each.encode() if isinstance(each, str) else each for each in values], name) == expected


def test_each_dialect_has_its_own_types() -> None:
    for backend, stamp, unique in [
        ("mysql", "DATETIME(6)", "CHAR(36)"),
        ("sqlite", "DATETIME", "CHAR(36)"),
    ]:
        assert type_text([b"2026-11-21T10:00:00.5Z"], backend=backend) == stamp
        assert type_text([str(uuid.UUID(int=7)).encode()], backend=backend) == unique
    assert type_text([b"x" * 20_000], backend="mysql") == "MEDIUMTEXT"
    assert type_text([b"12345678901234567.5"], backend="sqlite") == "VARCHAR(64)"
    assert type_text([b"123456789.12345678"], backend="sqlite") == "VARCHAR(64)"


def templates(keys: list[str]) -> dict[str, int]:
    """Return the templates of keys, each with how many it has."""
    found = [each for each in clusters.cluster(keys) if each.is_kind]
    return {clusters.template(each.parts, clusters.names_of(each.parts)): len(each.keys) for each in found}


FIVE = range(1, 6)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["person:123"], {"person:{id}": 1}),
        ([f"user:{i}:{j}" for i in FIVE for j in FIVE], {"user:{user_id}:{id}": 25}),
        (
            [f"user:{i}:{word}" for i in FIVE for word in ("profile", "cart")],
            {"user:{id}:profile": 5, "user:{id}:cart": 5},
        ),
        ([f"u:{{{i}}}:x" for i in FIVE], {"u:{{{id}}}:x": 5}),
        ([f"{{u:{i}}}:x" for i in FIVE], {"{{u:{id}}}:x": 5}),
        ([f"api:v1:user:{i}" for i in FIVE], {"api:v1:user:{id}": 5}),
        ([f"order-{i}" for i in FIVE] + [f"o{i}" for i in FIVE], {"order-{id}": 5, "o{id}": 5}),
        (["user:ada", "user:bob42", "user:bob7", "user:eve9"], {"user:{id}": 4}),
        ([f"user:{name}@x.de" for name in "abc"], {"user:{id}": 3}),
        ([f"session:{uuid.UUID(int=i << 99)}" for i in FIVE], {"session:{id}": 5}),
        (["1", "2", "config", "a:b:c", "a@b.de"], {}),
    ],
)
def test_templates_of_keys(keys: list[str], expected: dict[str, int]) -> None:
    assert templates(keys) == expected


@given(st.lists(st.text(st.sampled_from("ab1-:{}/ü_#"), min_size=1, max_size=12), max_size=30))
def test_each_template_covers_its_keys(keys: list[str]) -> None:
    found = clusters.cluster(keys)
    assert sorted(key for each in found for key in each.keys) == sorted(set(keys))
    for each in found:
        if each.is_kind:
            template = Template(clusters.template(each.parts, clusters.names_of(each.parts)))
            assert all(template.match(key.encode()) for key in each.keys)


def kinds(hashes: Mapping[str, Mapping[str, str]]) -> list[Kind]:
    encoded = {
        key.encode(): {name.encode(): value.encode() for name, value in fields.items()}
        for key, fields in hashes.items()
    }
    return kinds_of(encoded)[0]


def test_a_word_that_varies_between_equal_kinds_is_a_part_of_the_key() -> None:
    found = kinds({f"order:{region}:{i}": {"n": "1"} for region in ("eu", "us", "asia") for i in FIVE})
    assert [each.template for each in found] == ["order:{order_id}:{id}"]
    apart = kinds({f"{word}:{i}": {"n": "1"} for word in ("cat", "dog", "cow") for i in FIVE})
    assert sorted(each.template for each in apart) == ["cat:{id}", "cow:{id}", "dog:{id}"]


def test_a_field_that_repeats_the_key_is_left_out() -> None:
    (found,) = kinds({f"person:{i}": {"id": str(i), "n": str(i)} for i in FIVE})
    assert list(found.fields) == ["n"]
    (other,) = kinds({f"person:{i}": {"id": "x", "n": "1"} for i in FIVE})
    entry, table = proposals.propose(other, ["Person"], None, 0, CONNECTORS["sqlite"]._engine.dialect)
    assert (entry.keys, table.name) == ("person:{key_id}", "person_2")
    assert [column.name for column in table.columns] == ["key_id", "id", "n"]


@pytest.mark.parametrize("name", [b"", b"\xff", b"a\0b"])
def test_hashes_without_a_field_that_can_be_named_are_left_out(name: bytes) -> None:
    found, left_out = kinds_of({b"bin:%d" % i: {name: b"1"} for i in FIVE})
    assert (found, [each.name for each in left_out]) == ([], ["bin:{id}"])


def table(name: str, *columns: str) -> Table:
    made = {each: Column(each, None, "TEXT", text(3)) for each in columns}
    key = Column("id", None, "INTEGER", integer(0, 99), primary_key=True)
    return Table(name, {"id": key, **made}, ("id",), [])


def test_kinds_find_their_tables_by_name_or_by_columns() -> None:
    (found,) = kinds({f"person:{i}": {"firstName": "Adam", "city": "x", "age": "1"} for i in FIVE})
    by_name = table("people", "first_name")
    by_columns = table("other", "FirstName", "city", "age")
    match = matching.match(found, [by_columns, by_name])
    assert match is not None
    assert (match.table.name, match.columns) == ("people", {"firstName": "first_name"})
    entry = matching.entry_of(found, match, None, 0)
    assert "1 of 1 values tried do not fit: the text has 4 characters, 3 fit" in entry.lines[0].note
    assert entry.asides == ["Fields without a column: age, city."]
    unnamed = matching.match(found, [by_columns])
    assert unnamed is not None
    assert unnamed.table.name == "other"
    assert matching.match(found, [table("other", "city", "age")]) is None
