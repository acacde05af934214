"""The text of a drafted gearsync.toml: whatever the names are, it says what was meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Column, Table, TargetError
from connectors.values.types import integer
from connectors.values.types import text as texts
from deploy.drafts import database, references, text
from deploy.drafts.draft import Draft, Entry, LeftOut, Line, keys_of, parents_first
from deploy.drafts.references import Reference
from gears.declaring import config
from gears.declaring.template import Template

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
REFERENCE = Reference("env:SHOP_DB_URL", "shop", "SHOP_DB_URL=postgresql://app:***@db/shop")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_string_of_toml(value: str) -> None:
    assert tomllib.loads(f"a = {text.quoted(value)}") == {"a": value}


@settings(max_examples=30)
@given(table=NAMES, field=NAMES, column=NAMES, note=st.text())
def test_no_name_and_no_note_breaks_the_file(table: str, field: str, column: str, note: str) -> None:
    entry = Entry("x:{id}", table, [Line(field, column, note)], comments=[note], asides=[note])
    draft = Draft(REFERENCE, "a database", [entry], [LeftOut(table, note, note)], [note])
    (function,) = tomllib.loads(text.render(draft, "gearsync.toml"))["functions"]
    assert (function["table"], function["columns"]) == (table, {field: column})


def test_tables_of_several_schemas_have_a_target_each(tmp_path: Path) -> None:
    entries = [Entry(f"{name}:{{id}}", name, [Line("a", "b")], schema) for name, schema in
               [("one", None), ("two", "sales"), ("three", "sales")]]  # fmt: skip
    path = tmp_path / "gearsync.toml"
    path.write_text(text.render(Draft(REFERENCE, "a database", entries), "gearsync.toml"), "utf-8")
    made = config.load(str(path))
    assert {name: target.schema for name, target in made.targets.items()} == {
        "shop": None,
        "shop_sales": "sales",
    }
    assert [function.target_name for function in made.functions] == ["shop", "shop_sales", "shop_sales"]


@given(st.text(st.characters(exclude_characters=":\0", exclude_categories=["Cs"]), min_size=1, max_size=9))
def test_braces_in_a_tables_name_are_literal(table: str) -> None:
    key = Template(keys_of(table, ["a", "b"])).format([b"1", b"2"])
    assert key == f"{table}:1:2".encode()


@pytest.mark.parametrize(
    ("type_text", "keys"),
    [
        ("timestamp with time zone", "readings:{sensor}:{at*}"),
        ("TIME", "readings:{sensor}:{at*}"),
        ("date", "readings:{sensor}:{at}"),
    ],
)
def test_the_colons_of_a_moment_do_not_end_its_key(type_text: str, keys: str) -> None:
    columns = {
        "sensor": Column("sensor", None, "integer", integer(0, 99), primary_key=True),
        "at": Column("at", None, type_text, texts(30), primary_key=True),
        "value": Column("value", None, "integer", integer(0, 99)),
    }
    assert database.entry_of(Table("readings", columns, ("sensor", "at"), []), None).keys == keys


def test_parents_stand_before_their_children_also_in_circles() -> None:
    above = {"a": {"c"}, "b": {"b2"}, "b2": {"b"}, "c": {"d", "elsewhere"}, "d": set()}
    entries = [Entry("", name, [], parents=frozenset(parents)) for name, parents in above.items()]
    order = [entry.table for entry in parents_first(entries)]
    assert sorted(order) == sorted(above)
    assert order.index("d") < order.index("c") < order.index("a")


@pytest.mark.parametrize(
    "given_url",
    [
        "postgresql://app:s3cret@db/shop",
        "mysql+pymysql://db/shop?password=s3cret",
        "mysql://app:s3cret@db/shop",
    ],
)
def test_a_password_is_nowhere_in_the_file(given_url: str) -> None:
    reference = references.find(given_url)
    entry = Entry("a:{id}", "a", [Line("b", "b")])
    content = text.render(Draft(reference, reference.title, [entry]), "gearsync.toml")
    assert "s3cret" not in content + repr(reference)
    assert 'url = "env:SHOP_DB_URL"' in content
    assert "SHOP_DB_URL=" in reference.setting
    assert "***" in reference.setting


def test_a_reference_is_kept_and_a_sqlite_file_has_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPORTING_DB_URL", "sqlite:///a.db")
    (tmp_path / "shop.url").write_text("postgresql://app:s3cret@db/shop\n")
    by_variable = references.find("env:REPORTING_DB_URL")
    assert (by_variable.text, by_variable.name) == ("env:REPORTING_DB_URL", "reporting")
    by_file = references.find("file:shop.url")
    assert (by_file.text, by_file.name) == (f"file:{tmp_path}/shop.url", "shop")
    assert by_file.url is not None
    assert by_file.url.database == "shop"
    literal = references.find("sqlite:///data.sqlite")
    assert (literal.text, literal.name) == (f"sqlite:///{tmp_path}/data.sqlite", "data")
    assert references.find("postgresql://app@db/shop").text == "postgresql://app@db/shop"
    assert references.find("env:NOT_SET").url is None
    with pytest.raises(TargetError):
        references.find("env:")


def test_a_file_whose_name_ends_a_line_stays_in_its_comment() -> None:
    content = text.render(Draft(REFERENCE, "a database", []), "a\nkeys = 1\r.toml")
    assert "keys" not in tomllib.loads(content) and r"gearsync deploy a\nkeys = 1" in content
