"""gearsync demo, as a process, on each database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from deploy.demo import database as demo_database
from deploy.output import CommandError
from tests.integration.command import environment, gearsync

KEYS = 1000


def run(folder: Path, *arguments: str, **variables: str) -> str:
    """Run the demo in ``folder``; return what it printed."""
    done = gearsync("demo", "--keys", str(KEYS), *arguments, cwd=folder, timeout=110, **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    left = [
        each.pid
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(each.info["cmdline"] or [])
    ]
    assert left == [], "the demo ends what it starts"
    return done.stdout


def test_on_sqlite(tmp_path: Path) -> None:
    said = run(tmp_path)
    assert "Redis and SQL agree: 990 hashes, 990 rows, every value compared." in said
    assert "SELECT country, COUNT(*) AS orders" in said
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
    connection = sqlite3.connect(tmp_path / ".demo" / "reporting.db")
    assert connection.execute("SELECT COUNT(*) FROM gearsync_demo_orders").fetchone() == (990,)
    connection.close()
    assert "990 hashes" in run(tmp_path), "it can be run again"


def _require(target: str) -> None:
    try:
        demo_database._find(target)
    except CommandError as error:
        pytest.skip(error.message)


@pytest.mark.parametrize("target", ["postgres", "mysql"])
def test_on_a_server_that_it_starts(tmp_path: Path, target: str) -> None:
    _require(target)
    assert "990 hashes, 990 rows" in run(tmp_path, "--target", target)


def test_the_temporary_tables_of_another_server_stay(tmp_path: Path) -> None:
    """MariaDB deletes what it finds of them at its start; the server whose they were ends by that."""
    _require("mysql")
    account = demo_database._account("mysql")
    with tempfile.NamedTemporaryFile(prefix="#sql-temptable-", suffix=".MAI") as table:
        if account is not None:
            os.chown(table.name, account.pw_uid, account.pw_gid)
        run(tmp_path, "--target", "mysql")
        assert os.path.exists(table.name)


def test_on_a_database_that_is_given(tmp_path: Path, postgres_url: str) -> None:
    said = run(tmp_path, "--target", "postgres", GEARSYNC_DEMO_URL=postgres_url)
    assert "990 hashes, 990 rows" in said


def test_a_given_database_of_another_kind(tmp_path: Path) -> None:
    done = gearsync("demo", "--target", "mysql", cwd=tmp_path, GEARSYNC_DEMO_URL="postgresql://u:secret@h/d")
    assert done.returncode == 1
    assert "is the URL of another kind of database" in done.stderr
    assert "secret" not in done.stderr


def test_a_given_database_that_is_away(tmp_path: Path) -> None:
    url = "postgresql://u:secret@127.0.0.1:1/d"
    done = gearsync("demo", "--target", "postgres", cwd=tmp_path, GEARSYNC_DEMO_URL=url)
    assert done.returncode == 1
    assert "can't be used" in done.stderr
    assert "secret" not in done.stderr


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    done = gearsync("demo", "--dir", "mine", cwd=tmp_path)
    assert done.returncode == 1
    assert "holds files that are not a demo's" in done.stderr
    assert (tmp_path / "mine" / "precious").exists()


def test_a_difference_fails_with_a_sentence(tmp_path: Path) -> None:
    """Two rows are spoilt before they are compared."""
    spoil = """
import sqlalchemy
from deploy.demo import run as demo
from deploy.cli import main

real = demo._report

def report(engine):
    with engine.begin() as connection:
        for change in ("UPDATE {} SET items = 99 WHERE order_id = 1", "DELETE FROM {} WHERE order_id = 2"):
            connection.execute(sqlalchemy.text(change.format("gearsync_demo_orders")))
    real(engine)

demo._report = report
main("demo", "--keys", "50")
"""
    done = subprocess.run(
        [sys.executable, "-c", spoil],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Redis and SQL differ in 2 places:" in done.stderr
    assert "order:2 is in Redis and not in SQL." in done.stderr
    assert "order:1 is {" in done.stderr
