"""The URL of Redis, or a reference to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gears.worker.address import AddressError, resolve


def test_a_url_is_itself() -> None:
    assert resolve("redis://127.0.0.1:6379") == "redis://127.0.0.1:6379"


def test_a_variable_or_a_file_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_URL", " redis://u:p@h:1\n")
    assert resolve("env:WORKER_URL") == "redis://u:p@h:1"
    file = tmp_path / "worker.url"
    file.write_text("redis://u:p@h:2\n")
    assert resolve(f"file:{file}") == "redis://u:p@h:2"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_URL", raising=False)
    with pytest.raises(AddressError, match="variable WORKER_URL"):
        resolve("env:WORKER_URL")
    with pytest.raises(AddressError, match=r"nothing.url.*No such file"):
        resolve(f"file:{tmp_path / 'nothing.url'}")
    (tmp_path / "bytes").write_bytes(b"\xffsecret")
    with pytest.raises(AddressError, match="not UTF-8") as raised:
        resolve(f"file:{tmp_path / 'bytes'}")
    assert "secret" not in str(raised.value)
