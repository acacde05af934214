"""The pip requirements of a deployment, and the wheels that go to the shards with it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from deploy.checks.findings import Findings
from gears.declaring.deployment import Deployment


def check(
    deployment: Deployment, declared_in: str, wheels_folder: str | None, findings: Findings
) -> dict[str, Path]:
    """Check the requirements and collect the wheels to upload: file name → path.

    A requirement that is the path of a wheel, relative to the file ``declared_in``, becomes the exact
    version in that wheel. ``wheels_folder``: all its wheels go with the deployment. Sets ``requirements``
    and ``wheels`` of the deployment to what the worker needs.
    """
    wheels: dict[str, Path] = {}
    requirements = []
    for text in deployment.requirements:
        if text.endswith(".whl"):
            path = Path(os.path.dirname(declared_in), text)
            pinned = _read_wheel(path, declared_in, findings)
            if pinned is not None:
                wheels[path.name] = path
                requirements.append(pinned)
        elif _parse(text, declared_in, findings):
            requirements.append(text)
    if wheels_folder is not None:
        wheels.update(_wheels_in(wheels_folder, findings))
        _check_wheels_suffice(requirements, wheels, declared_in, findings)
    deployment.requirements = requirements
    deployment.wheels = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(wheels.items())
    }
    return wheels


def _parse(text: str, place: str, findings: Findings) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        findings.mistake(f"{text!r} is not what pip takes: {reason}", option="requirements", place=place)
        return None


def _wheels_in(folder: str, findings: Findings) -> dict[str, Path]:
    if not os.path.isdir(folder):
        findings.mistake("this folder does not exist", option="--wheels", place=folder)
        return {}
    found = sorted(Path(folder).glob("*.whl"))
    if not found:
        findings.mistake("no wheel (*.whl) is in this folder", option="--wheels", place=folder)
    return {path.name: path for path in found if _read_wheel(path, str(path), findings) is not None}


def _read_wheel(path: Path, place: str, findings: Findings) -> str | None:
    """Return what stands in a wheel as ``name==version``; None when it is no wheel, which is a mistake."""
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            if not any(member.endswith(".dist-info/METADATA") for member in archive.namelist()):
                raise zipfile.BadZipFile("it holds no METADATA")
    except FileNotFoundError:
        findings.mistake(f"the wheel {path} does not exist", option="requirements", place=place)
    except InvalidWheelFilename as error:
        findings.mistake(f"{path.name} is no wheel's name: {error}", option="requirements", place=place)
    except (OSError, zipfile.BadZipFile) as error:
        findings.mistake(f"{path} is not a wheel: {error}", option="requirements", place=place)
    else:
        return f"{name}=={version}"
    return None


def _check_wheels_suffice(
    requirements: list[str], wheels: dict[str, Path], place: str, findings: Findings
) -> None:
    """With a folder of wheels the shards ask no index, so each requirement must be among them."""
    available = [parse_wheel_filename(name)[:2] for name in wheels]
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        versions = [version for name, version in available if name == canonicalize_name(wanted.name)]
        if not any(wanted.specifier.contains(version, prereleases=True) for version in versions):
            has = f"only {', '.join(map(str, versions))}" if versions else "no wheel of it"
            findings.mistake(f"{text}: the folder of wheels holds {has}", option="requirements", place=place)
