"""References to databases: names, resolution, and what must never be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors import Target, TargetError, connect

SECRET = "s3cret"


def test_name_comes_from_the_reference() -> None:
    assert Target("env:REPORTING_DB_URL").name == "reporting_db_url"
    assert Target("file:/run/secrets/reporting.url").name == "reporting"
    assert Target("sqlite:////tmp/x.sqlite").name == "sqlite"
    assert Target("env:X", name="Sales-1").name == "Sales-1"


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a:b", "a\n"])
def test_wrong_name(name: str) -> None:
    with pytest.raises(TargetError, match="name"):
        Target("env:X", name=name)


def test_file_whose_name_is_none_needs_another() -> None:
    with pytest.raises(TargetError, match="name="):
        Target("file:/run/my secret.url")


@pytest.mark.parametrize("reference", ["", "env:", "file:"])
def test_empty_reference(reference: str) -> None:
    with pytest.raises(TargetError):
        Target(reference)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host/db",
        f"mysql://host/db?password={SECRET}",
        f"postgresql://host/db?sslpassword={SECRET}",
    ],
)
@pytest.mark.parametrize("name", [None, "given"])
def test_literal_url_with_a_password_is_turned_away(url: str, name: str | None) -> None:
    with pytest.raises(ValueError, match="env:NAME") as caught:
        Target(url, name=name)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://h/d", "postgresql+psycopg"),
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg"),
        ("mysql://h/d", "mysql+pymysql"),
        ("mariadb://h/d", "mysql+pymysql"),
        ("mariadb+pymysql://h/d", "mysql+pymysql"),
        ("sqlite:////x", "sqlite+pysqlite"),
        ("oracle+oracledb://h/d", "oracle+oracledb"),
    ],
)
def test_driver(text: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSYNC_URL", text)
    assert Target("env:GEARSYNC_URL").resolve().drivername == driver


def test_resolve_and_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEARSYNC_URL", raising=False)
    target = Target("env:GEARSYNC_URL")
    with pytest.raises(TargetError, match=r"GEARSYNC_URL.*not set"):
        target.resolve()
    monkeypatch.setenv("GEARSYNC_URL", f" postgresql://user:{SECRET}@host/db\n")
    url = target.resolve()
    assert (url.password, url.database) == (SECRET, "db")
    assert SECRET not in repr(target)
    path = tmp_path / "url"
    with pytest.raises(TargetError, match="can't be read"):
        Target(f"file:{path}").resolve()
    path.write_text(f"mysql://user:{SECRET}@host/db\n")
    assert Target(f"file:{path}").resolve().drivername == "mysql+pymysql"
    path.write_text(f"mysql://user:{SECRET}@host/db\n", "utf-8-sig")
    assert Target(f"file:{path}").resolve().drivername == "mysql+pymysql"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="not UTF-8"):
        Target(f"file:{path}").resolve()


def test_what_is_no_url_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSYNC_URL", f"{SECRET}@@@")
    with pytest.raises(TargetError, match="holds no database URL") as caught:
        Target("env:GEARSYNC_URL").resolve()
    assert SECRET not in str(caught.value)


def test_database_that_nobody_serves() -> None:
    with pytest.raises(TargetError, match="no connector for oracle"):
        connect("oracle+oracledb://h/d")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://u:{SECRET}@127.0.0.1:1/d?sslmode=require", "sslmode"),
        (f"mysql://u:{SECRET}@db..svc/d", "label empty or too long"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/d?ssl_ca=/not/there.pem", "No such file"),
    ],
)
def test_a_url_that_the_driver_does_not_take(url: str, said: str) -> None:
    connector = connect(url)
    with pytest.raises(TargetError, match=said) as caught:
        connector.table("persons")
    connector.close()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("schema", [5, ["a"], True])
def test_a_schema_is_a_name(schema: Any) -> None:
    with pytest.raises(TargetError, match="schema"):
        Target("env:X", schema=schema)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_the_end_of_a_password_with_an_at_is_not_taken_for_a_host(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", f"{kind}://user:hid@den@db.example/shop")
    with pytest.raises(TargetError, match="%40") as caught:
        Target("env:ODD").resolve()
    assert "den" not in str(caught.value)
    monkeypatch.setenv("ODD", f"{kind}://user:hid%40den@db.example/shop@1")
    assert Target("env:ODD").resolve().password == "hid@den"
