"""The pip requirements of one deployment, installed for it alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from gears.declaring.deployment import Deployment, wheel_field
from gears.worker import folders

PIP_TIMEOUT_SECONDS = 900
POLL_SECONDS = 0.2
FetchWheel = Callable[[str], bytes]


class RequirementsError(Exception):
    """pip could not install a deployment's requirements; the message holds pip's last lines."""


def _fingerprint(deployment: Deployment, wheels: dict[str, bytes]) -> str:
    digest = hashlib.sha256(repr((sys.version_info[:2], sorted(deployment.requirements))).encode())
    for name, content in sorted(wheels.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def install(
    deployment: Deployment,
    directory: Path,
    fetch_wheel: FetchWheel,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Install what the deployment requires below ``directory``; return the folder for ``sys.path``.

    None: it requires nothing. Wheels that were uploaded with the deployment are used instead of an index:
    ``fetch_wheel`` gives that of a field (``wheel_field``). A folder that is there already is used as it is.
    Ends pip when ``is_stopped``. Raises RequirementsError.
    """
    if not deployment.requirements and not deployment.wheels:
        return None
    wheels = {name: _fetched(name, digest, fetch_wheel) for name, digest in deployment.wheels.items()}
    folder = directory / deployment.name / _fingerprint(deployment, wheels)
    try:
        # First of all: who can write there could have put a folder of that name there.
        _make_own(directory)
        if folder.is_dir():
            return folder
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=folders.UNFINISHED, dir=folder.parent) as unfinished:
            _run_pip(deployment, wheels, Path(unfinished), is_stopped)
            (Path(unfinished) / "installed").rename(folder)
    except OSError as error:
        # Another worker may have been faster.
        if not folder.is_dir():
            raise RequirementsError(f"{folder} can't be written: {error.strerror}") from error
    return folder


def _fetched(name: str, digest: str, fetch_wheel: FetchWheel) -> bytes:
    """Return a wheel that is just what was deployed."""
    content = fetch_wheel(wheel_field(name, digest))
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise RequirementsError(
            f"the wheel {name} in Redis is not the one that was deployed: its SHA-256 differs; find out who "
            "replaced it, and deploy again with --wheels"
        )
    return content


def _make_own(directory: Path) -> None:
    """Make the folder, which nobody else may write to: what is in it is run."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = directory.stat()
    # A link could be turned to another place by who made it.
    if {about.st_uid, directory.lstat().st_uid} != {os.getuid()} or about.st_mode & 0o022:
        raise RequirementsError(f"{directory} belongs to somebody else, or others may write to it; remove it")


def _run_pip(
    deployment: Deployment, wheels: dict[str, bytes], folder: Path, is_stopped: Callable[[], bool]
) -> None:
    (folder / "installed").mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(folder / "installed")]
    for name, content in wheels.items():
        (folder / os.path.basename(name)).write_bytes(content)
    if wheels:
        command += ["--no-index", "--find-links", str(folder)]
    command += deployment.requirements or [str(folder / os.path.basename(name)) for name in wheels]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        code = _wait_for_pip(command, output, is_stopped)
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()][-4:]
    if code != 0:
        raise RequirementsError("pip could not install the requirements: " + " | ".join(lines))


def _wait_for_pip(command: list[str], output: TextIO, is_stopped: Callable[[], bool]) -> int:
    deadline = time.monotonic() + PIP_TIMEOUT_SECONDS
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output
    ) as process:
        while True:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if is_stopped() or time.monotonic() > deadline:
                    process.kill()
                    reason = "was ended with the worker" if is_stopped() else "did not finish within {} s"
                    raise RequirementsError(f"pip {reason.format(PIP_TIMEOUT_SECONDS)}") from None
