"""Bring a deployment to all primaries, or to none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from deploy import status
from deploy.hosts.base import Deployed, Pauses
from deploy.pausing import pauses
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shard
from deploy.rollout.plan import Plan
from gears.declaring.deployment import Deployment, wheel_field, wheel_fields
from gears.declaring.errors import PayloadError

PART_BYTES = 256 * 1024
"""How much of a wheel is sent at once: within seconds also by the slowest of links."""


class DeployFailed(Exception):
    """The deployment is on no shard that took it newly; ``notes`` says what was put back, and what could
    not be.
    """

    def __init__(self, message: str, notes: list[str]) -> None:
        super().__init__(message)
        self.notes = notes


class _Overtaken(Exception):
    """Somebody else has deployed, or undeployed, since the plan was made."""


@dataclass
class _Site:
    """One shard under deployment, with what is needed to put it back."""

    shard: Shard
    before: Deployed | None
    tag: str = ""
    wheels_before: set[bytes] | None = None
    """The fields; None: no wheel was uploaded."""
    sent: bool = False

    @property
    def client(self) -> redis.Redis:
        return self.shard.client

    @property
    def address(self) -> str:
        return self.shard.address

    def wheels_key(self, name: str) -> str:
        return f"gearsync:{{{self.tag}}}:wheels:{name}"


def is_deployed_already(plan: Plan) -> bool:
    """Return whether every shard has this very deployment, its wheels included; only the version may
    differ.
    """
    deployment = plan.deployment
    if deployment is None or plan.shards is None:
        return False
    wanted = _without_version(deployment.to_payload())
    for site in _sites(plan, deployment):
        before = site.before
        if before is None or before.state != "active" or _without_version(before.payload) != wanted:
            return False
        with errors_of(site.address):
            if plan.wheels and not _has_wheels(site, deployment, plan.wheels):
                return False
    return len({shard[deployment.name].version for shard in plan.before}) == 1


def _without_version(payload: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(payload)
    document.pop("version", None)
    return document


def _has_wheels(site: _Site, deployment: Deployment, wheels: dict[str, Path]) -> bool:
    site.tag = _tag(site.shard)
    if not site.tag:
        return True
    key = site.wheels_key(deployment.name)
    return all(
        site.client.hget(key, wheel_field(name, deployment.wheels[name])) == path.read_bytes()
        for name, path in wheels.items()
    )


def _sites(plan: Plan, deployment: Deployment) -> list[_Site]:
    assert plan.shards is not None  # noqa: S101 (for mypy)
    return [
        _Site(shard, before.get(deployment.name)) for shard, before in zip(plan.shards.shards, plan.before)
    ]


def _tag(shard: Shard) -> str:
    """Return the hash tag of a shard's own keys; a cluster's node has one once it was asked to check a
    deployment, and has none as long as it has no slot.
    """
    return str(shard.host.status()["tag"])


def send(plan: Plan, progress: Callable[[str], None]) -> None:
    """Upload the wheels, then deploy on every primary; ``progress`` takes a sentence for each step.

    Raises DeployFailed when a shard refuses or is lost, another one's deploy came between, or Ctrl-C ends it;
    every shard then has again what it had before, as far as it can be reached.
    """
    deployment = plan.deployment
    assert deployment is not None and plan.shards is not None  # noqa: S101 (for mypy)
    sites = _sites(plan, deployment)
    try:
        # A shard that is new must not begin what waits on all others.
        paused = pauses.on_any(status.fetch(plan.shards), deployment.name)
        plan.shards.make_ready()
        for site in sites:
            with errors_of(site.address):
                site.tag = _tag(site.shard)
                _upload_wheels(site, deployment, plan.wheels, progress)
        with errors_of(sites[0].address):
            sites[0].shard.host.bring(deployment, progress)
        for site in sites:
            progress(f"Deploying {deployment.name} version {deployment.version} to {site.address}")
            with errors_of(site.address):
                _require_unchanged(site, deployment, any(each.sent for each in sites))
                site.sent = True
                _deploy(site, deployment, paused)
    except _Overtaken as error:
        notes = _put_back(sites, deployment, progress)
        raise DeployFailed(f"{error}; look at the plan again, then deploy.", notes) from error
    except (ShardError, OSError) as error:
        notes = _put_back(sites, deployment, progress)
        raise DeployFailed(f"a shard failed. {error}", notes) from error
    except KeyboardInterrupt as error:
        notes = _put_back(sites, deployment, progress)
        raise DeployFailed("it was interrupted.", notes) from error
    for site in sites:
        if site.tag:
            try:
                with errors_of(site.address):
                    _drop_stale_wheels(site, deployment)
            except ShardError as error:
                # It is deployed all the same, and the next deploy removes them.
                progress(f"Wheels of earlier versions stay where they are: {error.message}")


def _require_unchanged(site: _Site, deployment: Deployment, is_begun: bool) -> None:
    """Raise _Overtaken when the shard has something else than when the plan was made and agreed to.

    ``is_begun``: another shard has this deployment from here, and RedisGears brings it to all by itself.
    """
    before, now = site.before, site.shard.host.deployments().get(deployment.name)
    if is_begun and now is not None and now.payload == deployment.to_payload() and now.state != "draining":
        return
    if now is None:
        # What was draining then may be gone by itself.
        if before is not None and before.state != "draining":
            raise _Overtaken(f"{site.address} no longer has {deployment.name}, which somebody has undeployed")
    elif before is None or not _is_same(before, now):
        what = "is undeploying" if now.state == "draining" else f"has deployed version {now.version} of"
        raise _Overtaken(f"somebody else {what} {deployment.name} on {site.address} since this was planned")


def _is_same(one: Deployed, other: Deployed) -> bool:
    """Whether both are one version; RedisGears can't always be asked for what is in it."""
    can_tell = one.payload and other.payload
    is_draining = "draining" in (one.state, other.state)
    return (not can_tell or (one.version, one.payload) == (other.version, other.payload)) and (
        one.state == other.state or not is_draining
    )


def _deploy(site: _Site, deployment: Deployment, paused: Pauses) -> None:
    if site.before is not None or not (paused.whole or paused.targets):
        site.shard.host.deploy(deployment)
    else:
        site.shard.host.deploy_paused(deployment, paused)


def _upload_wheels(
    site: _Site, deployment: Deployment, wheels: dict[str, Path], progress: Callable[[str], None]
) -> None:
    if not wheels:
        return
    if not site.tag:
        progress(f"{site.address} has no slot yet, and so no place for wheels; deploy again once it has")
        return
    key = site.wheels_key(deployment.name)
    fields: Any = site.client.hkeys(key)
    site.wheels_before = set(fields)
    for name, path in wheels.items():
        progress(f"Uploading {name} to {site.address}")
        _set_field(site.client, key, wheel_field(name, deployment.wheels[name]), path.read_bytes())


def _set_field(client: redis.Redis, key: str, field: str, content: bytes) -> None:
    """Do HSET in parts, so that the time which an answer may take is that of a part. Raises redis-py's
    errors.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        command = connection.pack_command("HSET", key, field, content)
        parts = (each[at : at + PART_BYTES] for each in command for at in range(0, len(each), PART_BYTES))
        connection.send_packed_command(parts)
        connection.read_response()
    except BaseException:
        # A reply that was not read would be taken for the next one's.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _drop_stale_wheels(site: _Site, deployment: Deployment) -> None:
    """Remove the wheels of earlier versions; only now, because until here a worker could still have asked
    for them.
    """
    key = site.wheels_key(deployment.name)
    names: Any = site.client.hkeys(key)
    kept = wheel_fields(deployment.to_payload())
    for each in site.shard.host.versions(deployment.name):
        # To go back to them.
        kept |= wheel_fields(each.payload)
    stale = [name for name in names if name.decode() not in kept]
    if stale:
        site.client.hdel(key, *stale)


# -- Putting back ------------------------------------------------------------------------------------------


def _put_back(sites: list[_Site], deployment: Deployment, progress: Callable[[str], None]) -> list[str]:
    notes = []
    for site in sites:
        if not site.sent and site.wheels_before is None:
            continue
        progress(f"Putting back what {site.address} had")
        try:
            with errors_of(site.address):
                notes.append(_put_back_one(site, deployment))
        except (ShardError, PayloadError) as error:
            notes.append(
                f"{site.address} could not be put back ({error}); when it answers again, deploy again, or "
                "run "
                f"`gearsync undeploy {deployment.name}`"
            )
    return [note for note in notes if note]


def _put_back_one(site: _Site, deployment: Deployment) -> str:
    note = _put_deployment_back(site, deployment) if site.sent else ""
    added = {wheel_field(*each).encode() for each in deployment.wheels.items()}
    if site.wheels_before is not None and (stale := added - site.wheels_before - _needed(site, deployment)):
        site.client.hdel(site.wheels_key(deployment.name), *stale)
    return note


def _put_deployment_back(site: _Site, deployment: Deployment) -> str:
    now = site.shard.host.deployments().get(deployment.name)
    ours = Deployed(deployment.name, deployment.version, "active", deployment.to_payload())
    if now is not None and not any(each is not None and _is_same(each, now) for each in (ours, site.before)):
        return f"{site.address} has version {now.version} of somebody else by now, which was left alone"
    return _remove(site, deployment) if site.before is None else _restore(site, site.before)


def _needed(site: _Site, deployment: Deployment) -> set[bytes]:
    """Return the wheels of what the shard has now, perhaps of somebody else."""
    now = site.shard.host.deployments().get(deployment.name)
    return set() if now is None or not now.payload else {each.encode() for each in wheel_fields(now.payload)}


def _restore(site: _Site, before: Deployed) -> str:
    site.shard.host.deploy(Deployment.from_payload(before.payload))
    if before.state == "draining":
        site.shard.host.undeploy(before.name, discard=False)
    return f"{site.address} has version {before.version} again"


def _remove(site: _Site, deployment: Deployment) -> str:
    """Take a deployment away that was not there before; what it captured meanwhile belongs to nobody."""
    found = [each for each in site.shard.host.status()["deployments"] if each["name"] == deployment.name]
    if not found:
        return ""
    site.shard.host.undeploy(deployment.name, discard=True)
    captured = int(found[0]["captured"])
    dropped = f"; {captured} writes that it had captured meanwhile stay in Redis alone" if captured else ""
    return f"{site.address} has no {deployment.name} again{dropped}"
