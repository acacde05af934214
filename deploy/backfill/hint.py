"""After a deploy: whether Redis has keys that its new functions cover, and that nobody captured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy import output
from deploy.backfill import estimate
from deploy.backfill.chosen import Chosen
from deploy.hosts.base import Deployed
from deploy.reaching.server_errors import ShardError
from deploy.reaching.shards import Shards
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.declaring.functions import Function


def existing_keys(shards: Shards, deployment: Deployment, before: Sequence[dict[str, Deployed]]) -> int:
    """Return about how many keys the functions cover that were not there ``before``, on each shard, by a
    sample; 0: none, or it could not be seen, which is said.
    """
    try:
        new = Chosen(deployment, tuple(new_functions(deployment, before)))
        return estimate.about(shards.shards, new.scans)
    except (ShardError, PayloadError) as error:
        output.status(f"Whether there are keys to backfill could not be seen: {error}")
        return 0


def new_functions(deployment: Deployment, before: Sequence[dict[str, Deployed]]) -> list[Function]:
    """Return the functions that bring writes to SQL, and did not on each shard before."""
    payloads = [known[deployment.name].payload if deployment.name in known else "" for known in before]
    captured = [
        {_place(each) for each in Deployment.from_payload(payload).capturing} if payload else set()
        for payload in payloads
    ]
    return [each for each in deployment.capturing if not all(_place(each) in known for known in captured)]


def _place(function: Function) -> tuple[Any, ...]:
    mapping = function.mapping
    return mapping.keys.text, mapping.db, mapping.table, function.target_name


def tell(keys: int, file: str) -> None:
    """Say how such keys come to SQL."""
    if keys:
        output.line()
        are = output.counted(keys, "key is", "keys are")
        output.line(f"About {are} in Redis that new functions cover. Those from before come to SQL by:")
        output.line(f"gearsync backfill {file}, with the same --redis.")
