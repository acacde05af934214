"""Other functions that have to do with the rows of a comparison: those that write to the same table, and
those whose own rows would go with a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deploy import policies
from deploy.checks.clashes import same_database
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards
from deploy.sources import Source
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.declaring.functions import Function


class Siblings(NamedTuple):
    """``writers``: functions that write to the same table, with their deployments. ``spared``: why no key may
    be captured as deleted; empty: each may. ``unclear``: why nobody knows whose a row is; empty: it is known.
    """

    writers: list[tuple[Deployment, Function]]
    spared: str
    unclear: str


def find(shards: Shards, source: Source) -> Siblings:
    """Return the siblings of a source's function, whatever deployments they are of. Raises ShardError."""
    writers: list[tuple[Deployment, Function]] = []
    spared = ""
    try:
        every = list(_others(shards, source))
    except PayloadError as error:
        return Siblings([], "", f"not all deployments there can be read ({error})")
    for deployment, function in every:
        if _is_of_table(deployment, function, source):
            writers.append((deployment, function))
        spared = spared or _why_spared(shards, deployment, function, source)
    strange = [
        f"{function.name} of {deployment.name}"
        for deployment, function in writers
        if function.transform_name is not None and deployment.name != source.deployment.name
    ]
    table = source.function.mapping.table
    unclear = f"{strange[0]} writes to {table}, too, by a transform" if strange else ""
    return Siblings(writers, spared, unclear)


def _others(shards: Shards, source: Source) -> Iterator[tuple[Deployment, Function]]:
    """Yield all other functions that capture on these shards. Raises PayloadError."""
    deployments = {source.deployment.name: source.deployment}
    for shard in shards.shards:
        with errors_of(shard.address):
            deployed = shard.host.deployments()
        for each in deployed.values():
            if each.state != "draining" and each.name not in deployments:
                deployments[each.name] = Deployment.from_payload(each.payload)
    for deployment in deployments.values():
        for function in deployment.capturing:
            if (deployment.name, function.name) != (source.deployment.name, source.function.name):
                yield deployment, function


def _is_of_table(deployment: Deployment, function: Function, source: Source) -> bool:
    if function.mapping.additions.history:
        return False
    target = deployment.targets[function.target_name]
    return function.mapping.table == source.function.mapping.table and same_database(target, source.target)


def _why_spared(shards: Shards, deployment: Deployment, function: Function, source: Source) -> str:
    """Say whose row would go with a key that is captured as deleted, although a policy has kept it."""
    mapping, own = function.mapping, source.function.mapping
    if mapping.on_delete == "keep" or not mapping.shares_keys(own):
        return ""
    if mapping.additions.history:
        return ""
    kept = policies.kept(deployment, function, shards)
    if not kept:
        return ""
    return (
        f"its key is one of {function.name} of {deployment.name} as well, whose row may be kept ({kept}) and "
        "would go, too; delete the row by SQL, or give --delete-extra"
    )
