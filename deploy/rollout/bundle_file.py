"""The file that carries requirements to shards that reach no package index.

A zip with ``manifest.json`` and, for requirement number n, its wheels as ``n/<file name>``. The manifest:
``{"format": "gearsync-requirements", "version": 1, "requirements": [{"requirement": "PyMySQL==1.1.1",
"wheels": [{"file": "PyMySQL-1.1.1-py3-none-any.whl", "sha256": "…"}]}]}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from deploy.hosts.bundles import Bundle
from deploy.hosts.drivers import NOT_FOR_SHELL

FORMAT = "gearsync-requirements"
VERSION = 1
MANIFEST = "manifest.json"
PYTHON = (3, 7)
"""RedisGears 1.2 has no other."""


class BundleFileError(Exception):
    """The file is none of gearsync's, or is damaged; the text says how."""


def write(path: Path, bundles: Iterable[Bundle]) -> None:
    """Write a file with these requirements; one that is there already is replaced when all is in. Raises
    OSError.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            documents = [_add(archive, number, bundle) for number, bundle in enumerate(bundles, 1)]
            manifest = {"format": FORMAT, "version": VERSION, "requirements": documents}
            archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, number: int, bundle: Bundle) -> dict[str, Any]:
    wheels = []
    for name, content in bundle.wheels.items():
        archive.writestr(f"{number}/{name}", content)
        wheels.append({"file": name, "sha256": hashlib.sha256(content).hexdigest()})
    return {"requirement": bundle.requirement, "wheels": wheels}


def read(path: Path) -> list[Bundle]:
    """Read a file's requirements. Raises BundleFileError, OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            documents = _manifest(archive)
            return [_bundle(archive, number, each) for number, each in enumerate(documents, 1)]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # RuntimeError: what is encrypted, or packed in a way that this Python does not know.
        raise BundleFileError(f"it is no zip, or a damaged one: {error}") from error


def _manifest(archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    try:
        document = json.loads(archive.read(MANIFEST))
        is_ours = document["format"] == FORMAT
    except (KeyError, TypeError, ValueError) as error:
        raise BundleFileError(f"it holds no {MANIFEST} of gearsync") from error
    if not is_ours:
        raise BundleFileError(f"its {MANIFEST} is not gearsync's")
    if document.get("version") != VERSION:
        raise BundleFileError(
            f"it is of version {document.get('version')}, and this gearsync reads version {VERSION}"
        )
    requirements: list[dict[str, Any]] = document.get("requirements")
    if not isinstance(requirements, list) or not requirements:
        raise BundleFileError("it holds no requirement")
    return requirements


def _bundle(archive: zipfile.ZipFile, number: int, document: dict[str, Any]) -> Bundle:
    try:
        requirement = str(document["requirement"])
        sums = {str(each["file"]): str(each["sha256"]) for each in document["wheels"]}
    except (KeyError, TypeError) as error:
        raise BundleFileError(f"{MANIFEST} does not describe requirement {number}") from error
    _require_usable(requirement, sums)
    return Bundle(requirement, {name: _wheel(archive, number, name, sums[name]) for name in sums})


def _require_usable(requirement: str, wheels: Iterable[str]) -> None:
    """Refuse what a shard could not install: RedisGears would keep it for good nevertheless."""
    try:
        Requirement(requirement)
    except InvalidRequirement as error:
        raise BundleFileError(f"{requirement!r} is not what pip takes") from error
    if NOT_FOR_SHELL & set(requirement):
        raise BundleFileError(f"{requirement!r} has a character that RedisGears does not take")
    names = list(wheels)
    if not names:
        raise BundleFileError(f"{requirement} has no wheel")
    for name in names:
        try:
            tags = parse_wheel_filename(name)[3]
        except InvalidWheelFilename as error:
            raise BundleFileError(f"{name!r} is no wheel's name") from error
        if NOT_FOR_SHELL & set(name) or "/" in name:
            raise BundleFileError(f"{name!r} is no wheel's name")
        if not any(map(_suits, tags)):
            raise BundleFileError(f"{name} is not for CPython 3.7, which RedisGears 1.2 has")


def _suits(tag: Tag) -> bool:
    """Whether RedisGears' Python takes a wheel with this tag; for which system it is, pip judges there."""
    kind, version = tag.interpreter[:2], tag.interpreter[2:]
    if kind not in ("py", "cp") or not version.isdigit():
        return False
    numbers = (int(version[0]), int(version[1:] or 0))
    if kind == "py" or tag.abi in ("abi3", "none"):
        return numbers[0] == PYTHON[0] and numbers <= PYTHON
    return numbers == PYTHON


def _wheel(archive: zipfile.ZipFile, number: int, name: str, sha256: str) -> bytes:
    try:
        content = archive.read(f"{number}/{name}")
    except KeyError as error:
        raise BundleFileError(f"{name} is missing in it") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleFileError(f"{name} in it is damaged: it does not have the sum that {MANIFEST} names")
    return content
