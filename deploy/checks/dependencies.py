"""What pip will look for among the wheels of a deployment, with no index to ask, and not find."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

_OF_THE_PYTHON = re.compile(r"\b(python_|os_|sys_|platform_|implementation_)")
"""What a marker says of the Python that it is for, which is the worker's."""


def lacking(requirements: Sequence[str], wheels: Mapping[str, Path]) -> Iterator[str]:
    """Yield a sentence for each requirement, and each that a wheel names in turn, which no wheel meets.

    What depends on the Python of the worker, or on which of several versions pip takes, is left to pip.
    """
    available: dict[str, dict[Version, Path]] = {}
    for path in wheels.values():
        name, version, _, _ = parse_wheel_filename(path.name)
        available.setdefault(name, {})[version] = path
    open_ones = [
        (each, "") for each in map(Requirement, requirements) if each.marker is None or each.marker.evaluate()
    ]
    seen = set()
    while open_ones:
        wanted, user = open_ones.pop(0)
        if (key := (str(wanted), user)) in seen:
            continue
        seen.add(key)
        versions = available.get(canonicalize_name(wanted.name), {})
        met = [path for version, path in versions.items() if wanted.specifier.contains(version, True)]
        if wanted.url is not None:
            yield f"{wanted.name}: with wheels nothing is fetched; name it without a URL"
        elif not met:
            has = f"there is only {', '.join(map(str, versions))}" if versions else "there is none of it"
            yield f"{wanted}{f', which {user} requires' if user else ''}: among the wheels {has}"
        elif len(met) == 1:
            open_ones += [(each, wanted.name) for each in _needed(met[0], wanted.extras)]


def _needed(wheel: Path, extras: set[str]) -> Iterator[Requirement]:
    """Yield what a wheel requires on each Python, with these extras."""
    with zipfile.ZipFile(wheel) as archive:
        # Not that of a package which it may have inside.
        name = min((each for each in archive.namelist() if each.endswith(".dist-info/METADATA")), key=len)
        headers = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    for text in headers.get_all("Requires-Dist") or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            # Of a form that pip takes no more, or not yet: it is for pip to say.
            continue
        if wanted.marker is None or _holds(wanted.marker, extras):
            wanted.marker = None
            yield wanted


def _holds(marker: Marker, extras: set[str]) -> bool:
    if _OF_THE_PYTHON.search(str(marker)):
        return False
    return any(marker.evaluate({"extra": each}) for each in extras or {""})
