"""The Redis side: every shard by itself, then the cluster that they are."""

from __future__ import annotations

from typing import Any

import redis

from deploy import status
from deploy.doctor import access, clocks, cluster, deployments, durability, memory, replication, versions
from deploy.doctor.asking import Redis
from deploy.doctor.findings import Diagnosis
from deploy.hosts.base import Host
from deploy.output import CommandError
from deploy.reaching import shards as reaching
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError


def check(url: str, diagnosis: Diagnosis) -> list[Deployment]:
    """Look at all shards behind ``url``; return what is deployed there, each once, where it is readable."""
    try:
        shards = reaching.connect(url, needs_host=False)
    except CommandError as error:
        diagnosis.at("--redis").error("redis-away", error.message, "Nothing there was looked at.", error.hint)
        return []
    with shards:
        return _check(shards, diagnosis)


def _check(shards: Shards, diagnosis: Diagnosis) -> list[Deployment]:
    servers, statuses = [], []
    deployed: dict[str, Deployment] = {}
    for shard in shards.shards:
        place = diagnosis.at(shard.address)
        try:
            with errors_of(shard.address):
                server = Redis(shard.client, place)
                host = _host(shard, server)
                document = status.fetch_or_error(shard) if host is not None else {}
                _check_shard(server, host, document)
                for each in _deployed(host, diagnosis, shard.address):
                    deployed.setdefault(each.name, each)
        except CommandError as error:
            place.error("redis-away", error.message, "Nothing there was looked at.", error.hint)
            continue
        servers.append(server)
        diagnosis.looked_at.append(f"{shard.address} ({server.title})")
        if "error" in document:
            place.note("not-looked-at", document["error"], "Whether workers run is not known from here.")
        elif document.get("role", "primary") == "primary" and document:
            statuses.append(document)
    deployments.check(statuses, diagnosis)
    if shards.kind == "cluster":
        cluster.check(servers, diagnosis.at("cluster"))
    return list(deployed.values())


def _host(shard: Shard, server: Redis) -> Host | None:
    try:
        return shard.host
    except CommandError as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            server.place.note(
                "not-looked-at", error.message, "What is deployed there is not known from here.", error.hint
            )
        elif server.info.get("role") == "master":
            server.place.error("host", error.message, "Nothing is captured there.", error.hint)
        return None


def _check_shard(server: Redis, host: Host | None, document: dict[str, Any]) -> None:
    versions.check(server, host, document)
    durability.check(server)
    memory.check(server, document.get("deployments", []))
    replication.check(server)
    clocks.check_redis(server)
    access.check(server)


def _deployed(host: Host | None, diagnosis: Diagnosis, address: str) -> list[Deployment]:
    found = []
    for each in host.deployments().values() if host is not None else ():
        if not each.payload:
            continue
        try:
            found.append(Deployment.from_payload(each.payload))
        except PayloadError as error:
            diagnosis.at(address).warn(
                "payload",
                f"The deployment {each.name} can't be read: {error}.",
                "A newer gearsync has made it; its databases were not looked at.",
                "Use the gearsync that deployed it.",
            )
    return found
