"""Why a row may be there without its hash, by the function's policies and what the servers do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Around, Reading


def kept(deployment: Deployment, function: Function, shards: Shards) -> str:
    """Return why rows without a hash are no difference; empty: they are one.

    Eviction and flushes count only where the servers evict, or have been flushed since they started.
    """
    mapping = function.mapping
    reasons = [f'{name} = "keep"' for name in ("on_delete", "on_expire") if getattr(mapping, name) == "keep"]
    if mapping.operations:
        reasons.append("clients may delete hashes alone, by the operation -")
    reasons += [
        f"{each.name} makes hashes of rows when they are read" for each in _readers(deployment, function)
    ]
    facts = list(_facts(shards))
    if mapping.on_evict == "keep" and any(map(_evicts, facts)):
        reasons.append('on_evict = "keep", and the server evicts')
    if mapping.on_flush == "keep" and any(map(_was_flushed, facts)):
        reasons.append('on_flush = "keep", and the server was flushed')
    return ", ".join(reasons)


def followed(deployment: Deployment, function: Function) -> float:
    """Return how many seconds others' changes of the table may take to Redis; 0: nobody follows them."""
    polls = [
        each.pattern.poll_ms / 1000
        for each in deployment.functions
        if isinstance(each.pattern, Around) and _same_table(each, function)
    ]
    return 1.0 + max(polls) if polls else 0.0


def _readers(deployment: Deployment, function: Function) -> list[Function]:
    """Return the functions by which rows become hashes when they are wanted, or that end hashes alone."""
    kinds = Reading, Around
    return [
        each
        for each in deployment.functions
        if isinstance(each.pattern, kinds) and _same_table(each, function)
    ]


def _same_table(one: Function, other: Function) -> bool:
    return (one.target_name, one.mapping.table) == (other.target_name, other.mapping.table)


def _facts(shards: Shards) -> Iterable[dict[str, Any]]:
    for shard in shards.shards:
        with errors_of(shard.address):
            found: dict[str, Any] = {}
            for section in ("memory", "stats", "commandstats"):
                found.update(shard.client.info(section))
        yield found


def _evicts(facts: dict[str, Any]) -> bool:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    return bool(facts.get("evicted_keys")) or (policy != "noeviction" and bool(facts.get("maxmemory")))


def _was_flushed(facts: dict[str, Any]) -> bool:
    return any(f"cmdstat_{name}" in facts for name in ("flushall", "flushdb"))
