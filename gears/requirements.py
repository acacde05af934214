"""The pip requirements of one deployment, installed for it alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from gears.deployment import Deployment

PIP_TIMEOUT_SECONDS = 900
FetchWheel = Callable[[str], bytes]


class RequirementsError(Exception):
    """pip could not install a deployment's requirements; the message holds pip's last lines."""


def _fingerprint(deployment: Deployment, wheels: dict[str, bytes]) -> str:
    digest = hashlib.sha256(repr((sys.version_info[:2], sorted(deployment.requirements))).encode())
    for name, content in sorted(wheels.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def install(deployment: Deployment, directory: Path, fetch_wheel: FetchWheel) -> Path | None:
    """Install what the deployment requires below ``directory``; return the folder for ``sys.path``.

    None: it requires nothing. Wheels that were uploaded with the deployment are used instead of an index. A
    folder that is there already is used as it is. Raises RequirementsError.
    """
    if not deployment.requirements and not deployment.wheels:
        return None
    wheels = {name: fetch_wheel(name) for name in deployment.wheels}
    folder = directory / deployment.name / _fingerprint(deployment, wheels)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="installing-", dir=folder.parent))
    try:
        _run_pip(deployment, wheels, unfinished)
        (unfinished / "installed").rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise RequirementsError(f"{folder} can't be written: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _run_pip(deployment: Deployment, wheels: dict[str, bytes], folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(folder / "installed")]
    for name, content in wheels.items():
        (folder / os.path.basename(name)).write_bytes(content)
    if wheels:
        command += ["--no-index", "--find-links", str(folder)]
    command += deployment.requirements or [str(folder / os.path.basename(name)) for name in wheels]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PIP_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise RequirementsError(f"pip did not finish within {PIP_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()][-4:]
        raise RequirementsError("pip could not install the requirements: " + " | ".join(lines))
