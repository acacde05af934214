"""Wheels on their way to a shard."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from deploy.cli import group
from deploy.rollout import upload
from tests.integration import deployed

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="external", requirements=["large"])
WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=Target("env:NOWHERE"))
"""
KEY = "gearsync:{0}:wheels:people"
MEGABYTE = 1 << 20


def wheel(folder: Path, version: str, size: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"large-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"large-{version}.dist-info/METADATA", f"Name: large\nVersion: {version}\n")
        archive.writestr("data", os.urandom(size))
    return path


def deploy(folder: Path, url: str) -> Result:
    path = folder / "functions.py"
    path.write_text(FUNCTIONS)
    arguments = ["deploy", str(path), "--wheels", str(folder / "wheels"), "--offline", "--redis", url]
    return CliRunner().invoke(group, arguments)


def test_a_wheel_is_sent_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one part, it would have to pass a slow link within the time that an answer may take."""
    sizes: list[int] = []

    def send(self: Any, command: Iterable[bytes], check_health: bool = True) -> None:
        parts = [command] if isinstance(command, str) else list(command)
        sizes.extend(map(len, parts))
        original(self, parts, check_health)

    original: Any = redis.Connection.send_packed_command
    path = wheel(tmp_path / "wheels", "1.0", 3 * MEGABYTE)
    with deployed.server() as server, server.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(redis.Connection, "send_packed_command", send)
            done = deploy(tmp_path, server.url)
        assert done.exit_code == 0, done.stderr
        stored: Any = client.hvals(KEY)
    assert stored == [path.read_bytes()]
    assert max(sizes) <= upload.PART_BYTES


def test_wheels_that_redis_has_no_room_for_leave_those_of_before(tmp_path: Path) -> None:
    """The first of two is in when Redis refuses the second; nothing of them stays."""
    wheel(tmp_path / "wheels", "1.0", MEGABYTE)
    with deployed.server() as server, server.client() as client:
        assert deploy(tmp_path, server.url).exit_code == 0
        before: Any = client.hgetall(KEY)
        for version in ("2.0", "3.0"):
            wheel(tmp_path / version, version, MEGABYTE).rename(
                tmp_path / "wheels" / f"large-{version}-py3-none-any.whl"
            )
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + MEGABYTE // 2)
        done = deploy(tmp_path, server.url)
        assert done.exit_code == 1
        assert "nothing was deployed" in done.stderr, done.stderr
        assert "could not be put back" not in done.stderr
        assert client.hgetall(KEY) == before
