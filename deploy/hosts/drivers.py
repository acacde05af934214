"""What the Python of RedisGears must have for a deployment; the pins are the last for its CPython 3.7."""

from __future__ import annotations

from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from connectors import TargetError
from deploy.hosts.packages import Packages
from gears.declaring.deployment import Deployment

SQLALCHEMY = ("sqlalchemy", "SQLAlchemy==2.0.58")
DRIVERS = {
    "postgresql": ("psycopg", "psycopg[binary]==3.1.20"),
    "mysql": ("pymysql", "PyMySQL==1.1.1"),
}
"""What is imported, and the requirement that brings it, for each kind of database but SQLite."""
PINS = (SQLALCHEMY[1], *(pin for _, pin in DRIVERS.values()))

PYTHON = {"python_version": "3.7", "python_full_version": "3.7.0", "implementation_name": "cpython"}
"""Of what requirements with markers are for, if not of this Python."""
NOT_FOR_SHELL = frozenset("'\"`$\\\n\r\0")
"""What RedisGears, which gives requirements to a shell, would take for something else."""


@dataclass
class Needs:
    """``requirements``: what a session must name, so that it has it also after a restart. ``missing``: which
    of them are to be brought first.
    """

    requirements: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, requirement: str, is_missing: bool) -> None:
        """Note a requirement."""
        self.requirements.append(requirement)
        if is_missing:
            self.missing.append(requirement)


def needs(packages: Packages, deployment: Deployment) -> Needs:
    """Return what a deployment needs on the shards: the user's own requirements, and the drivers that are
    not the Python's own.
    """
    known = [each.requirement for each in packages.known() if each.is_downloaded]
    found = Needs()
    own = _own(deployment)
    for requirement in own:
        found.add(str(requirement), str(requirement) not in known)
    wanted = _wanted(deployment, own)
    shards = packages.look(sorted(wanted))
    for module, pin in wanted.items():
        origins = {shard[module] for shard in shards}
        kept = next((each for each in known if _brings(each, pin)), "")
        if origins != {"own"} or kept:
            found.add(kept or pin, not kept or "absent" in origins)
    return found


def _own(deployment: Deployment) -> list[Requirement]:
    """Return the user's requirements for this Python, without their markers."""
    found = []
    for each in map(Requirement, deployment.requirements):
        if each.marker is None or each.marker.evaluate(PYTHON):
            each.marker = None
            found.append(each)
    return found


def _wanted(deployment: Deployment, own: list[Requirement]) -> dict[str, str]:
    """Return the modules that are imported, with their pins, unless the user names a version."""
    kinds = sorted(_backends(deployment))
    named = {canonicalize_name(each.name) for each in own}
    pairs = [SQLALCHEMY, *(DRIVERS[each] for each in kinds if each in DRIVERS)]
    return {module: pin for module, pin in pairs if canonicalize_name(Requirement(pin).name) not in named}


def _brings(known: str, pin: str) -> bool:
    """Whether a requirement on a shard is one for the same driver, whichever version."""
    try:
        there, wanted = Requirement(known), Requirement(pin)
    except InvalidRequirement:
        # Of somebody else: a path, say, which only pip understands.
        return False
    is_same = canonicalize_name(there.name) == canonicalize_name(wanted.name)
    return is_same and wanted.extras <= there.extras


def is_driver(known: str) -> bool:
    """Whether a requirement on a shard is one for a driver, whichever version."""
    return any(_brings(known, pin) for pin in PINS)


def unusable(deployment: Deployment) -> list[str]:
    """Say which requirements can't be given to RedisGears."""
    return [
        f"the requirement {each} has a character that RedisGears does not take: a quote, $, ` or \\"
        for each in map(str, _own(deployment))
        if NOT_FOR_SHELL & set(each)
    ]


def _backends(deployment: Deployment) -> set[str]:
    """Return the kinds of the deployment's databases; all, when one is known only where the shard is."""
    found = set()
    for target in deployment.targets.values():
        try:
            found.add(target.resolve().get_backend_name())
        except TargetError:
            return set(DRIVERS)
    return found
