"""The plan of a deploy: everything is looked at before anything is sent, and every mistake is named with
its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deploy.checks import clashes, requirements, servers, tables
from deploy.checks.findings import Findings
from deploy.hosts.base import Deployed
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shards, connect
from gears.declaring import config
from gears.declaring.deployment import Deployment, wheel_field
from gears.declaring.errors import DeclarationError, Mistake


@dataclass
class Plan:
    """What would be deployed, and what was found about it.

    ``deployment`` is None when the file's own mistakes keep it from being one. ``wheels`` are to be
    uploaded: file name → path. ``before`` is what each shard, in the order of ``shards.shards``, has
    now, by name.
    """

    deployment: Deployment | None = None
    findings: Findings = field(default_factory=Findings)
    wheels: dict[str, Path] = field(default_factory=dict)
    shards: Shards | None = None
    before: list[dict[str, Deployed]] = field(default_factory=list)

    def close(self) -> None:
        """Close the connections to Redis."""
        if self.shards is not None:
            self.shards.close()

    @property
    def mistakes(self) -> list[Mistake]:
        """What forbids to deploy."""
        return self.findings.mistakes


def make(
    path: str,
    *,
    name: str | None = None,
    wheels_folder: str | None = None,
    url: str | None = None,
    accept_eviction: bool = False,
    offline: bool = False,
) -> Plan:
    """Load the file at ``path`` and check it against its databases (not with ``offline``) and the Redis at
    ``url``.

    Nothing is changed anywhere. A Redis that can't be reached or has no module is a mistake too.
    """
    plan = Plan()
    try:
        plan.deployment = config.load(path, name)
    except DeclarationError as error:
        plan.mistakes.extend(error.mistakes)
        return plan
    plan.wheels = requirements.check(plan.deployment, path, wheels_folder, plan.findings)
    _check(plan, plan.deployment, path, url, accept_eviction, offline)
    return plan


def make_again(deployment: Deployment, *, url: str, accept_eviction: bool, offline: bool) -> Plan:
    """Check a version that was deployed before as ``make`` does; its wheels must still be on each shard."""
    place = f"version {deployment.version} of {deployment.name}"
    plan = Plan(deployment)
    _check(plan, deployment, place, url, accept_eviction, offline)
    if plan.shards is None or not deployment.wheels:
        return plan
    for shard in plan.shards.shards:
        with errors_of(shard.address):
            there = shard.host.wheels(deployment.name)
        wheels = deployment.wheels.items()
        if lacking := sorted(name for name, digest in wheels if wheel_field(name, digest) not in there):
            message = (
                f"{shard.address} no longer has {', '.join(lacking)}; deploy the older file, with its wheels"
            )
            plan.findings.mistake(message, place=place)
    return plan


def _check(
    plan: Plan, deployment: Deployment, place: str, url: str | None, accept_eviction: bool, offline: bool
) -> None:
    clashes.check_within(deployment, plan.findings)
    _warn_of_wide_templates(deployment, plan.findings)
    if offline:
        plan.findings.not_checked.append("The tables were not looked at (--offline).")
    else:
        tables.check(deployment, place, plan.findings)
    if url is None:
        plan.findings.not_checked.append("Redis was not asked (no --redis).")
        return
    try:
        plan.shards = connect(url)
        _check_shards(plan, deployment, plan.shards, accept_eviction)
    except ShardError as error:
        does = f"; {error.hint}" if error.hint else ""
        plan.findings.mistake(f"{error.message.rstrip('.')}{does}", place="--redis")


def _warn_of_wide_templates(deployment: Deployment, findings: Findings) -> None:
    for function in deployment.functions:
        if not function.mapping.keys.prefix:
            message = (
                "the template starts with a name, so that keys of any prefix are covered; start it with text"
            )
            findings.warn(message, function, "keys")


def _check_shards(plan: Plan, deployment: Deployment, shards: Shards, accept_eviction: bool) -> None:
    seen: dict[str, Deployment] = {}
    for shard in shards.shards:
        with errors_of(shard.address):
            deployed = shard.host.deployments()
            servers.check_server(shard.client, shard.address, deployment, accept_eviction, plan.findings)
        plan.before.append(deployed)
        others = servers.others_on(deployed, shard.address, plan.findings)
        seen.update((other.name, other) for other in others)
    clashes.check_with_others(deployment, list(seen.values()), plan.findings)
    clashes.check_waiting(deployment, list(seen.values()), plan.findings)
    clashes.check_expiry(deployment, list(seen.values()), plan.findings)
    versions = [deployed[deployment.name].version for deployed in plan.before if deployment.name in deployed]
    deployment.version = 1 + max(versions, default=0)
    if plan.mistakes:
        return
    for shard in shards.shards:
        with errors_of(shard.address):
            servers.check_accepts(shard, deployment, plan.findings)
