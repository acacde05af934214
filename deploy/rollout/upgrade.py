"""What a deploy would do to what is there: shown first, and asked about where something is lost by it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from deploy import output, status
from deploy.hosts.base import Deployed
from deploy.output import CommandError, counted
from deploy.rollout import differences, upload
from deploy.rollout.differences import CHANGED, Difference
from deploy.rollout.plan import Plan

EXIT_DIFFERS = 3
"""The exit code of a plan that would change something."""


_OF_OLD = "They are applied by the rules of the version that captured them."
_OF_OLD_WITH_NEW = (
    "They are applied by the rules of the version that captured them, with the packages of the new one. If "
    "its transforms need others, the new rules apply, or they are dead letters: run gearsync wait first."
)
_OF_NEW = "They are applied by the rules of the new version."


@dataclass
class Upgrade:
    """The way from what the shards have to what is to be deployed.

    ``before`` is the version that most is known of, 0: none is there. ``waiting`` counts the changes on all
    shards that an older version captured; ``fate`` says what becomes of them. ``lacking`` are the shards that
    have another version or none.
    """

    name: str
    before: int
    after: int
    differences: list[Difference] = field(default_factory=list)
    waiting: int = 0
    lacking: list[str] = field(default_factory=list)
    fate: str = _OF_OLD

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.differences and not self.lacking

    @property
    def destructive(self) -> list[Difference]:
        """What somebody has to agree to."""
        return [each for each in self.differences if each.is_destructive]


def of(plan: Plan) -> Upgrade:
    """Compare a sound plan with what the shards have. Raises ShardError."""
    deployment, shards = plan.deployment, plan.shards
    assert deployment is not None and shards is not None  # noqa: S101 (for mypy)
    name = deployment.name
    deployed = {
        shard.address: before[name] for shard, before in zip(shards.shards, plan.before) if name in before
    }
    newest = max(deployed.values(), key=lambda each: each.version, default=None)
    made = Upgrade(name, newest.version if newest else 0, deployment.version)
    made.differences = _differences(newest, deployment.to_payload())
    if newest is None:
        return made
    if not all(each.host.keeps_rules for each in shards.shards):
        made.fate = _OF_NEW
    elif newest.payload and json.loads(newest.payload)["source"] and _has_other_packages(made.differences):
        made.fate = _OF_OLD_WITH_NEW
    made.lacking = [each for each in shards.addresses if not _has(deployed.get(each), newest)]
    if made.is_empty and not upload.is_deployed_already(plan):
        what = "wheels" if plan.wheels else "deployment"
        note = f"Not every shard has the {what} as here."
        made.differences.append(Difference(CHANGED, "", what, note=note))
    made.waiting = sum(_waiting(each, name) for each in status.fetch(shards))
    return made


def _has_other_packages(found: list[Difference]) -> bool:
    return any(each.what in ("requirements", "wheels") for each in found)


def _differences(newest: Deployed | None, payload: str) -> list[Difference]:
    if newest is None or not newest.payload:
        return differences.first(payload)
    return differences.between(newest.payload, payload)


def _has(deployed: Deployed | None, newest: Deployed) -> bool:
    return deployed is not None and (deployed.version, deployed.state) == (newest.version, "active")


def _waiting(document: dict[str, Any], name: str) -> int:
    return sum(int(each["backlog"]["entries"]) for each in document["deployments"] if each["name"] == name)


def document(upgrade: Upgrade) -> dict[str, Any]:
    """Return it as JSON values."""
    found = [{**asdict(each), "destructive": each.is_destructive} for each in upgrade.differences]
    return {**asdict(upgrade), "differences": found, "destructive": bool(upgrade.destructive)}


def heading(upgrade: Upgrade) -> str:
    """Return what stands over the differences."""
    if upgrade.is_empty:
        return f"{upgrade.name} version {upgrade.before} is deployed already; there is nothing to do"
    if not upgrade.before:
        return f"{upgrade.name} is not deployed yet; version {upgrade.after} brings"
    return f"{upgrade.name}: version {upgrade.before} becomes {upgrade.after}"


def lines(upgrade: Upgrade) -> list[tuple[str, list[str]]]:
    """Return a line for each difference, with what follows from it."""
    found = [(str(each), _follows(each)) for each in upgrade.differences]
    found += [(f"+ {each} gets the deployment", []) for each in upgrade.lacking]
    if upgrade.waiting and upgrade.differences:
        count = counted(upgrade.waiting, "change waits", "changes wait")
        found.append((f"{count} for SQL", [upgrade.fate]))
    return found


def _follows(difference: Difference) -> list[str]:
    return [
        *([f"DESTRUCTIVE: {difference.loss}"] if difference.loss else []),
        *filter(None, [difference.note]),
    ]


def require_consent(upgrade: Upgrade, yes: bool) -> None:
    """Ask whether what is destructive is meant, unless ``yes``. Raises CommandError when it is not."""
    count = counted(len(upgrade.destructive), "destructive difference")
    if not upgrade.destructive or yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            f"{upgrade.name} has {count}, and nobody can be asked here; nothing was deployed.",
            "look at the plan (gearsync deploy FILE --plan), and give --yes if it is meant.",
        )
    if not click.confirm(f"Deploy with {count}?", err=True):
        raise CommandError("nothing was deployed.")


def tell(upgrade: Upgrade, err: bool) -> None:
    """Show the plan: as data, or with ``err`` beside a deploy's own output."""
    output.notes(heading(upgrade), lines(upgrade), err)
