"""When requirements are installed anew, and where they may be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gears.declaring.deployment import Deployment
from gears.worker import folders, requirements
from gears.worker.requirements import RequirementsError


def folder_of(directory: Path, wheels: dict[str, bytes] | None = None, **settings: Any) -> str:
    """Return the name of the folder where a deployment's requirements would be; nothing is installed."""
    wheels = wheels or {}
    deployment = Deployment("people", functions=[], targets={}, wheels=dict.fromkeys(wheels, ""), **settings)
    return requirements._fingerprint(deployment, wheels)


def test_a_deployment_that_requires_nothing_has_no_folder(tmp_path: Path) -> None:
    deployment = Deployment("people", functions=[], targets={})
    assert requirements.install(deployment, tmp_path / "work", lambda name: b"") is None
    assert not (tmp_path / "work").exists()


def test_the_same_requirements_are_in_the_same_folder(tmp_path: Path) -> None:
    one = folder_of(tmp_path, {"a.whl": b"1"}, requirements=["x", "y"])
    assert folder_of(tmp_path, {"a.whl": b"1"}, requirements=["y", "x"], version=2) == one


@pytest.mark.parametrize(
    ("wheels", "required"),
    [
        ({"a.whl": b"1"}, ["x", "y==2"]),
        ({"a.whl": b"2"}, ["x", "y"]),
        ({"b.whl": b"1"}, ["x", "y"]),
        ({}, ["x", "y"]),
        ({"a.whl": b"1", "b.whl": b"1"}, ["x", "y"]),
    ],
)
def test_others_are_in_another(tmp_path: Path, wheels: dict[str, bytes], required: list[str]) -> None:
    one = folder_of(tmp_path, {"a.whl": b"1"}, requirements=["x", "y"])
    assert folder_of(tmp_path, wheels, requirements=required) != one


def test_a_folder_that_is_there_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_run_pip", lambda *_: pytest.fail("pip was run"))
    deployment = Deployment("people", functions=[], targets={}, requirements=["x"])
    there = tmp_path / "people" / requirements._fingerprint(deployment, {})
    there.mkdir(parents=True)
    assert requirements.install(deployment, tmp_path, lambda name: b"") == there


@pytest.mark.parametrize("planted", [False, True], ids=["empty", "with a folder of the right name"])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, planted: bool) -> None:
    """What is in it would be run: also what looks installed already."""
    shared = tmp_path / "shared"
    deployment = Deployment("people", functions=[], targets={}, requirements=["x"])
    there = shared / "people" / requirements._fingerprint(deployment, {})
    (there if planted else shared).mkdir(parents=True)
    shared.chmod(0o777)
    with pytest.raises(RequirementsError, match=r"others may write to it; remove it"):
        requirements.install(deployment, shared, lambda name: b"")


def test_a_link_that_somebody_else_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "mine"
    real.mkdir(mode=0o700)
    link = tmp_path / "gearsync-1000"
    link.symlink_to(real)
    mine = real.stat()
    stranger = SimpleNamespace(st_uid=mine.st_uid + 1, st_mode=0o120777)
    monkeypatch.setattr(Path, "lstat", lambda self: stranger if self == link else os.lstat(self))
    deployment = Deployment("people", functions=[], targets={}, requirements=["x"])
    with pytest.raises(RequirementsError, match=r"belongs to somebody else"):
        requirements.install(deployment, link, lambda name: b"")


def test_a_wheel_that_was_replaced_in_redis_is_refused(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"what was deployed").hexdigest()
    stored = {f"{digest}/a.whl": b"another"}
    deployment = Deployment("people", functions=[], targets={}, wheels={"a.whl": digest})
    with pytest.raises(RequirementsError, match=r"a\.whl in Redis is not the one that was deployed"):
        requirements.install(deployment, tmp_path / "work", stored.__getitem__)
    assert not (tmp_path / "work").exists()


def test_a_new_folder_is_the_workers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_pip(_: Deployment, __: dict[str, bytes], folder: Path, ___: object) -> None:
        (folder / "installed").mkdir()

    monkeypatch.setattr(requirements, "_run_pip", run_pip)
    deployment = Deployment("people", functions=[], targets={}, requirements=["x"])
    made = requirements.install(deployment, tmp_path / "work", lambda name: b"")
    assert made is not None and made.is_dir()
    assert (tmp_path / "work").stat().st_mode & 0o077 == 0
    assert list(made.parent.iterdir()) == [made]


def test_a_failed_install_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_pip(_: Deployment, __: dict[str, bytes], folder: Path, ___: object) -> None:
        (folder / "installed").mkdir()
        raise RequirementsError("pip could not install the requirements: no")

    monkeypatch.setattr(requirements, "_run_pip", run_pip)
    deployment = Deployment("people", functions=[], targets={}, requirements=["x"])
    with pytest.raises(RequirementsError):
        requirements.install(deployment, tmp_path / "work", lambda name: b"")
    assert list((tmp_path / "work" / "people").iterdir()) == []


def test_folders_of_long_ago_are_removed_unless_a_worker_holds_them(tmp_path: Path) -> None:
    """Each version may leave its packages, in the folder where Redis has its data."""
    made = [tmp_path / f"{number:02}" for number in range(9)]
    killed, working = tmp_path / "installing-a", tmp_path / "installing-b"
    for number, each in enumerate([*made, killed, working]):
        (each / "package").mkdir(parents=True)
        os.utime(each, (number, number))
    os.utime(working)
    held = folders.hold(made[1])
    oldest = folders.hold(made[0])
    assert held is not None and oldest is not None
    # Another worker's; this one is the last that was used.
    os.utime(made[1], (1, 1))
    folders.remove_unused(tmp_path)
    assert set(tmp_path.iterdir()) == {made[0], made[1], *made[5:], working}
    assert time.time() - made[0].stat().st_mtime < 60
    os.close(held)
    folders.remove_unused(tmp_path)
    assert set(tmp_path.iterdir()) == {made[0], *made[5:], working}
    os.close(oldest)


def test_a_folder_that_is_removed_meanwhile_is_not_held(tmp_path: Path) -> None:
    assert folders.hold(tmp_path / "gone") is None


def test_the_worker_keeps_its_own_drivers(tmp_path: Path) -> None:
    """Of what a deployment requires one may bring another version: it was that which went to the database."""
    for name in ("psycopg", "pymysql", "sqlalchemy", "redis", "ours"):
        (tmp_path / f"{name}.py").write_text("is_theirs = True")
    program = (
        "import sys, pathlib; from gears.worker.preparation import use; use(pathlib.Path(sys.argv[1]));"
        "import psycopg, pymysql, sqlalchemy, redis, ours, psycopg.rows;"
        "print([hasattr(each, 'is_theirs') for each in (psycopg, pymysql, sqlalchemy, redis, ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[False, False, False, False, True]", done.stderr
