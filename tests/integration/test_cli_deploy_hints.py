"""What a deploy advises where a worker does not run, and that following it loses nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy import workers
from deploy.cli import group
from deploy.workers import WorkerState
from tests.integration import deployed

TRANSFORMED = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="external", requirements=%r)


def shortened(change):
    import textwrap
    return change


WriteBehind(
    keys="person:{id}",
    table="persons",
    columns=["name"],
    target=Target("sqlite:///%s/reporting.db"),
    transform=shortened,
)
"""
FILE = """
name = "people"
worker = "external"

[targets.reporting]
url = "sqlite:///{folder}/reporting.db"

[[functions]]
kind = "write-behind"
keys = "person:{{id}}"
table = "persons"
columns = {columns}
target = "reporting"
"""


def test_an_upgrade_whose_worker_fails_is_taken_back_by_a_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back from a first deploy, `undeploy --discard`, would drop what waits."""
    with closing(sqlite3.connect(tmp_path / "reporting.db")) as connection:
        connection.execute("CREATE TABLE persons (id TEXT PRIMARY KEY, name TEXT, age INTEGER)")
    path = tmp_path / "gearsync.toml"

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(group, [*arguments, "--redis", server.url])

    def hint(columns: str) -> str:
        path.write_text(FILE.format(folder=tmp_path, columns=columns))
        with monkeypatch.context() as patch:
            # As of a worker whose requirements pip can't install.
            failed = WorkerState("here", "failed", "no such package")
            patch.setattr(workers, "wait_until_running", lambda *_: [failed])
            patch.setattr(workers, "look", lambda *_: failed)
            done = run("deploy", str(path))
        assert done.exit_code == 1, done.stderr
        return " ".join(done.stderr.split()).partition("Try:")[2]

    with deployed.server() as server, server.client() as client:
        assert "`gearsync undeploy people --discard` takes it back" in hint('["name"]')
        # A second version, which is as the first: there is nothing to go back to.
        assert "`gearsync undeploy people --discard` takes it back" in hint('["name"]')
        client.hset("person:1", "name", "Ada")
        second = hint('["name", "age"]')
        assert "undeploy" not in second
        assert "`gearsync rollback people` brings version 2 back" in second
        back = run("rollback", "people", "--yes")
        assert back.exit_code == 0, back.stderr
        assert len(deployed.changes(client)) == 1


def test_the_plan_says_with_whose_packages_waiting_changes_are_applied(tmp_path: Path) -> None:
    """A transform of the version before may need one that the new version no longer names."""
    path = tmp_path / "functions.py"
    with deployed.server() as server, server.client() as client:
        arguments = [str(path), "--redis", server.url, "--offline"]
        path.write_text(TRANSFORMED % (["one==1.0"], tmp_path))
        assert CliRunner().invoke(group, ["deploy", *arguments]).exit_code == 0
        client.hset("person:1", "name", "Ada")
        path.write_text(TRANSFORMED % ([], tmp_path))
        done = CliRunner().invoke(group, ["deploy", *arguments, "--plan"])
    assert done.exit_code == 3, done.stderr
    said = " ".join(done.stdout.split())
    assert "1 change waits for SQL" in said
    assert "with the packages of the new one" in said
    assert "run gearsync wait first" in said


def test_a_deploy_to_a_cluster_that_is_down_says_that_it_is_deployed(tmp_path: Path) -> None:
    """Slots that belong to no node keep nobody from deploying, but wheels of before can't be looked for."""
    path = tmp_path / "functions.py"
    path.write_text(TRANSFORMED % ([], tmp_path))
    with deployed.server("--cluster-enabled", "yes") as server, server.client() as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(1, 16384))
        done = CliRunner().invoke(group, ["deploy", str(path), "--redis", server.url, "--offline"])
    assert done.exit_code == 0, done.stderr
    assert "Deployed people version 1" in done.stdout
    assert "Wheels of earlier versions stay where they are" in done.stderr
