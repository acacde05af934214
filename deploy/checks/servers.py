"""The Redis side of a plan: does every shard take the deployment, and what there could lose changes."""

from __future__ import annotations

from typing import Any

import redis

from deploy.checks.findings import Findings
from deploy.hosts.base import Deployed
from deploy.reaching.shards import Shard
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError


def check_server(
    client: redis.Redis, address: str, deployment: Deployment, accept_eviction: bool, findings: Findings
) -> None:
    """Add what one shard's configuration means for the deployment."""
    info: dict[str, Any] = client.info("everything")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        message = (
            f"maxmemory-policy is {policy}, which can evict the streams where changes wait. Set it to "
            "noeviction or "
            "a volatile-* policy"
        )
        if accept_eviction:
            findings.warn(message, place=address)
        else:
            findings.mistake(f"{message}, or accept the loss with --accept-eviction", place=address)
    if info.get("aof_enabled") == 0:
        findings.warn(
            "appendonly is off: a crash of Redis loses what the last snapshot lacks, writes and waiting "
            "changes alike",
            place=address,
        )
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled") == 1:
        for function in deployment.functions:
            if function.mapping.on_flush == "delete":
                message = (
                    "on a cluster one shard's flush can't delete rows of the others; use on_flush=\"keep\""
                )
                findings.mistake(message, function, "on_flush")


def check_accepts(shard: Shard, deployment: Deployment, findings: Findings) -> None:
    """Ask one shard whether it takes the deployment, without deploying."""
    refusal = shard.host.refusal(deployment)
    if refusal:
        findings.mistake(refusal, place=shard.address)
    for function, risk in shard.host.risks(deployment):
        findings.warn(risk, function)


def others_on(deployed: dict[str, Deployed], address: str, findings: Findings) -> list[Deployment]:
    """Return the active deployments of a shard, read; one that can't be read is a warning."""
    found = []
    for each in deployed.values():
        if each.state == "draining":
            continue
        try:
            found.append(Deployment.from_payload(each.payload))
        except PayloadError as error:
            message = f"clashes with the deployment {each.name} can't be seen: {error}"
            findings.warn(message, place=address)
    return found
