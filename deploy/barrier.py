"""Wait, over all shards at once, until what was written so far is in SQL."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import wait as wait_for
from functools import partial
from typing import Any

import redis

from deploy import output, status
from deploy.output import CommandError
from deploy.pausing import paused_targets, pauses
from deploy.reaching.connections import same_server
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import Shard, Shards
from gears.worker.aside import aside

#: Seconds that an answer may come later than the timeout that the server was told.
GRACE = 10.0
#: Seconds from the loss of a shard until it is looked for again.
AGAIN_SECONDS = 0.5

#: The most that a server is asked to wait at once: a socket's timeout has to fit 31 bits of milliseconds.
MOST_SECONDS = 2_000_000.0

#: (address, epoch, stream) of each lane. A shard raises its epoch above that of a lane that comes.
_Lanes = set[tuple[str, int, str]]


def wait(shards: Shards, seconds: float, key: str | None = None, deployment: str | None = None) -> bool:
    """Return whether all that was captured before the call gets into SQL, or a dead letter, in ``seconds``.

    ``key`` and ``deployment`` narrow what is waited for. The marks are set on all shards at the start, so
    that writes that go on do not lengthen the wait. When lanes have changed their shard meanwhile, it is
    waited once more: a lane may have come to a shard after its marks were set there. Who was lost on the way
    is looked for again, since a replica may have been promoted. Raises ShardError.
    """
    deadline = time.monotonic() + seconds
    is_first = True
    known: _Lanes | None = None
    while True:
        try:
            with contextlib.nullcontext(shards) if is_first else shards.again() as found:
                statuses = status.fetch(found) if found.kind == "cluster" or deployment is not None else []
                lanes = _lanes(statuses)
                if known is not None and lanes <= known:
                    return True
                if not is_first and time.monotonic() > deadline:
                    return False
                known = lanes
                holders = found.shards if deployment is None else _holders(found, statuses, deployment)
                if not _wait_on_all(holders, deadline - time.monotonic(), deployment, key):
                    return False
            if found.kind != "cluster":
                return True
        except ShardError as error:
            if shards.kind == "standalone" or _is_for_good(error) or time.monotonic() > deadline:
                raise
            known = None
            time.sleep(AGAIN_SECONDS)
        is_first = False


def _is_for_good(error: ShardError) -> bool:
    refusals = (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError)
    return isinstance(error.__cause__, refusals)


def _wait_on_all(shards: list[Shard], seconds: float, deployment: str | None, key: str | None) -> bool:
    milliseconds = max(1, round(min(seconds, MOST_SECONDS) * 1000))
    # Not by threads of a pool: Ctrl-C ends it before the time is over.
    futures = [aside(partial(_wait_one, shard, milliseconds, deployment, key)) for shard in shards]
    wait_for(futures)
    reached = [future.result() for future in futures]
    return all(reached)


def _lanes(statuses: list[dict[str, Any]]) -> _Lanes:
    return {
        (shard["address"], shard["epoch"], lane["stream"])
        for shard in statuses
        for deployment in shard["deployments"]
        for target in deployment["targets"]
        for lane in target["lanes"]
    }


def leftovers(statuses: list[dict[str, Any]], deployment: str | None = None) -> list[str]:
    """Return a sentence for each deployment and shard where changes wait, and the reasons that are known."""
    statuses = [
        {
            **shard,
            "deployments": [each for each in shard["deployments"] if deployment in (None, each["name"])],
        }
        for shard in statuses
    ]
    sentences = [
        f"{each['name']} on {shard['address']}: "
        f"{output.counted(each['backlog']['entries'], 'change waits', 'changes wait')}."
        for shard in statuses
        for each in shard["deployments"]
        if each["backlog"]["entries"]
    ]
    sentences += paused_of(statuses)
    return sentences + [each for each in status.attention(statuses) if "dead letter" not in each]


def paused_of(statuses: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each deployment, function and target that waits until somebody resumes it."""
    sentences = [
        f"{each['name']} on {shard['address']} is {paused}; nothing of it goes to SQL until gearsync resume."
        for shard in statuses
        for each in shard["deployments"]
        if (paused := pauses.described(each))
    ]
    sentences += [
        f"function {function['name']} of {each['name']} on {shard['address']} is {paused}; "
        f"{output.counted(function['held'], 'change is', 'changes are')} held back until gearsync resume "
        f"{each['name']} --function {function['name']}."
        for shard in statuses
        for each in shard["deployments"]
        for function in each.get("functions") or []
        if (paused := pauses.described(function))
    ]
    sentences += [
        f"target {name} of {each['name']} on {shard['address']} is {pauses.described(target)}; "
        f"{output.counted(paused_targets.waiting(target), 'change waits', 'changes wait')} until gearsync "
        f"resume {each['name']} --target {name}."
        for shard in statuses
        for each in shard["deployments"]
        for name, target in paused_targets.of(each).items()
    ]
    return sentences


def in_vain(
    shards: Shards, deployment: str | None, timeout: float, passed: float, again: str
) -> CommandError:
    """Return what to tell who has waited for ``passed`` seconds of ``timeout``; ``again`` is how to wait on.

    Raises ShardError.
    """
    with shards.again() as now:
        left = leftovers(status.fetch(now), deployment)
    # What a pause holds back is told at once.
    is_late = passed >= 0.9 * timeout
    after = f"after {timeout:g} s, " if is_late else ""
    lines = [f"{after}not all changes are in SQL.", *(f"  {each}" for each in left)]
    what = again if is_late else "gearsync resume what is paused"
    return CommandError("\n".join(lines), f"{what}, or see gearsync status.")


def _wait_one(shard: Shard, milliseconds: int, deployment: str | None, key: str | None) -> bool:
    with errors_of(shard.address):
        client = same_server(shard.client, socket_timeout=milliseconds / 1000 + GRACE)
        with client:
            return type(shard.host)(client).wait(milliseconds, deployment, key)


def _holders(shards: Shards, statuses: list[dict[str, Any]], name: str) -> list[Shard]:
    """Return the shards that have a deployment; a new one may not have it yet."""
    names = [[deployment["name"] for deployment in each["deployments"]] for each in statuses]
    holders = [shard for shard, there in zip(shards.shards, names) if name in there]
    if not holders:
        known = sorted({each for there in names for each in there})
        raise CommandError(
            f"there is no deployment {name} on {', '.join(shards.addresses)}.",
            f"one of {', '.join(known)}." if known else "deploy it first: gearsync deploy FILE.",
        )
    return holders
