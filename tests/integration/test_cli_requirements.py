"""gearsync requirements where there is nothing to carry, or no RedisGears."""

from __future__ import annotations

from pathlib import Path

from deploy.hosts.bundles import Bundle
from deploy.rollout import bundle_file
from tests.integration import deployed
from tests.integration.command import gearsync

PYMYSQL = Bundle("PyMySQL==1.1.1", {"PyMySQL-1.1.1-py3-none-any.whl": b"wheel"})


def test_the_module_takes_wheels_by_deploy(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    bundle_file.write(file, [PYMYSQL])
    with deployed.server() as server:
        for way in ("import", "export"):
            run = gearsync("requirements", way, str(file), "--redis", server.url)
            assert run.returncode == 1
            assert f"Redis at 127.0.0.1:{server.port} runs functions by gearsync's module" in run.stderr
            assert "gearsync deploy --wheels DIR" in run.stderr
    assert bundle_file.read(file) == [PYMYSQL]


def test_a_file_that_is_none_is_refused_before_any_server_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "drivers.zip"
    file.write_bytes(b"no zip")
    run = gearsync("requirements", "import", str(file), "--redis", "redis://127.0.0.1:1")
    assert run.returncode == 1
    assert f"{file} can't be imported: it is no zip" in run.stderr
    assert "gearsync requirements export" in run.stderr


def test_what_pip_does_not_take_is_wrong_usage(tmp_path: Path) -> None:
    with deployed.server() as server:
        run = gearsync("requirements", "export", str(tmp_path / "a.zip"), "no such", "--redis", server.url)
    assert run.returncode in (1, 2)
    assert not (tmp_path / "a.zip").exists()
