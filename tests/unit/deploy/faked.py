"""Shards without servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from deploy.hosts.base import Deployed
from deploy.reaching.shards import Shard, Shards
from gears.declaring.deployment import Deployment


class FakeHost:
    """What stands for a shard's host: it has deployments, and notes what it is asked to do."""

    def __init__(self, *deployed: Deployed, entries: Sequence[dict[str, Any]] = ()) -> None:
        self.deployed = deployed
        self.entries = list(entries)
        self.acts: list[str] = []

    def deployments(self) -> dict[str, Deployed]:
        return {each.name: each for each in self.deployed}

    def status(self) -> dict[str, Any]:
        return {"tag": "", "deployments": self.entries}

    def prepare(self) -> None:
        pass

    def require_ready(self, shards: int) -> None:
        pass

    def bring(self, deployment: Deployment, progress: object) -> None:
        pass

    def deploy(self, deployment: Deployment) -> None:
        self.acts.append("deploy")
        self.entries.append({"name": deployment.name, "targets": [], "captured": 0})

    def undeploy(self, name: str, discard: bool) -> None:
        self.acts.append("discard" if discard else "undeploy")


def shards_of(*hosts: FakeHost) -> Shards:
    """Return shards with these hosts, at 10.0.0.1:6379, 10.0.0.2:6379, and so on."""
    shards = []
    for number, host in enumerate(hosts, 1):
        address = f"10.0.0.{number}:6379"
        shard = Shard(address, redis.Redis(), f"redis://{address}")
        # What is cached is not asked for.
        shard.__dict__["host"] = host
        shards.append(shard)
    return Shards("cluster" if len(hosts) > 1 else "standalone", shards, shards[0].url)
