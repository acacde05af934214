"""The pip requirements of a deployment, and the wheels that go to the shards with it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from deploy.checks import dependencies
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
        if text.endswith(".whl") and not _names_url(text):
            path = Path(os.path.dirname(declared_in), text)
            pinned = _read_wheel(path, declared_in, findings)
            if pinned is not None:
                wheels[path.name] = path
                requirements.append(pinned)
        elif _is_sound(text, declared_in, findings):
            requirements.append(text)
    if wheels_folder is not None:
        wheels.update(_wheels_in(wheels_folder, findings))
    if wheels or wheels_folder is not None:
        # The shards ask no index then.
        for sentence in dependencies.lacking(requirements, wheels):
            findings.mistake(sentence, option="requirements", place=declared_in)
    deployment.requirements = requirements
    deployment.wheels = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(wheels.items())
    }
    return wheels


def _names_url(text: str) -> bool:
    """Whether a text is of the form ``name @ URL``, and so no path."""
    try:
        return Requirement(text).url is not None
    except InvalidRequirement:
        return False


def _is_sound(text: str, place: str, findings: Findings) -> bool:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        findings.mistake(f"{text!r} is not what pip takes: {reason}", option="requirements", place=place)
        return False
    url = urlsplit(requirement.url or "")
    if url.password is None and (url.username is None or not url.scheme.endswith(("http", "https"))):
        return True
    findings.mistake(
        f"the URL of {requirement.name} holds a login, and requirements are stored in Redis and shown; let "
        "PIP_INDEX_URL in the worker's environment say where the package is, or upload its wheel",
        option="requirements",
        place=place,
    )
    return False


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
