"""Who claims a lane, and what becomes of a claim by a shard that has lost the lane since.

Where primaries of a cluster die while slots with lanes move, a lane can be another shard's for a while, whose
worker claims it under that shard's epoch, and then be this shard's again, without any mark of that. Its claim
may stand above this shard's epoch. A backup that was restored looks much the same, but for who made the
claim: there it was a worker of this very shard, in its later life, and a person has to decide. But for a
replica of this server that took itself for a primary for a while, because it was started as one: what it had
in that life is gone.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import redis

from connectors import Claim, Fenced
from connectors.bookkeeping import lives
from gears.worker import lanes
from gears.worker.lanes import Lanes
from gears.worker.logs import event
from gears.worker.moving import moves

log = logging.getLogger("gearsync.worker")

_LOST = "another shard had claimed this lane, under a higher epoch than this one's, and has lost it again"
_FOLLOWS = (
    "a replica of this server had claimed this lane, under a higher epoch than this one's, as a primary"
)
DOUBLED = "an earlier life of this Redis, which it has forgotten, had the same epoch"
_raising = threading.Lock()


def name_of(worker: str, known: Lanes) -> str:
    """Return who a worker of a shard is in SQL (connectors/bookkeeping/lives.py)."""
    return f"{worker}@{known.source}" + (f".{known.life}" if known.life else "")


def outrank(client: redis.Redis, deployment: str, claim: Claim) -> bool:
    """Have an epoch above one in which another life of this shard has claimed a lane; whether there is one.

    It is as high as a promotion makes it: that life may go on, and restart. Raises redis.RedisError.
    """
    with _raising:
        if lanes.fetch_lanes(client, deployment).epoch > claim.epoch:
            return True
        return _raise(client, ((claim.epoch >> 20) + 1) << 20, claim.stream, DOUBLED)


def outlive(url: str, deployment: str, fenced: Fenced) -> bool:
    """Have an epoch above a claim of another shard of the cluster, which does not have the lane any more, or
    of a server that is a replica of this one now.

    Returns whether it is above. Raises redis.RedisError when a server can't be asked.
    """
    source = lives.source_of(fenced.owner)
    with _raising, lanes.connect(url) as client:
        own = lanes.fetch_lanes(client, deployment)
        if source and source == own.source:
            is_over, why = _follows(client, fenced), _FOLLOWS
        else:
            is_over, why = bool(source) and _has_lost(client, deployment, source, fenced), _LOST
        if is_over and own.epoch <= fenced.epoch:
            return _raise(client, fenced.epoch + 1, fenced.stream, why)
    return is_over


def _raise(client: redis.Redis, epoch: int, stream: str, why: str) -> bool:
    try:
        client.execute_command("GEARSYNC.EPOCH", epoch)
    except redis.exceptions.NoPermissionError as error:
        told = event("epoch_refused", lane=stream, error=str(error))
        log.error("%s: %s (%s): raise the epoch by hand", stream, why, error, extra=told)
        return False
    log.warning(
        "%s: %s; the epoch is %d now",
        stream,
        why,
        epoch,
        extra=event("epoch_raised", lane=stream, epoch=epoch),
    )
    return True


def _follows(client: redis.Redis, fenced: Fenced) -> bool:
    """Whether the life of that claim was one of a server that is a replica of this one now."""
    life = lives.life_of(fenced.owner)
    told: dict[str, Any] = client.info("replication") if life else {}
    for name, each in told.items():
        if not (name.startswith("slave") and isinstance(each, dict)):
            continue
        with moves.node_at(client, each["ip"], int(each["port"])) as node:
            try:
                status = json.loads(node.execute_command("GEARSYNC.STATUS"))
            except redis.ResponseError:
                # A replica without the module.
                continue
            # An older module tells of no lives.
            if (status["role"], status.get("life")) == ("replica", life):
                return True
    return False


def _has_lost(client: redis.Redis, deployment: str, source: str, fenced: Fenced) -> bool:
    """Whether the shard of that source lives, in no older state than that of its claim, without the lane."""
    cluster = client.info("cluster")
    for _, node in moves.primaries(client) if cluster.get("cluster_enabled") else ():
        with node:
            try:
                known = lanes.fetch_lanes(node, deployment)
            except redis.ResponseError:
                # A shard without the deployment, or without the module.
                continue
            if known.source == source:
                return known.epoch >= fenced.epoch and fenced.stream not in {e.stream for e in known.lanes}
    return False
