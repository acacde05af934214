"""Wait, over all shards at once, until what was written so far is in SQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from deploy import output, status
from deploy.output import CommandError
from deploy.shards import Shard, Shards, errors_of, same_server

#: Seconds that an answer may come later than the timeout that the server was told.
GRACE = 10.0


def wait(shards: Shards, seconds: float, key: str | None = None, deployment: str | None = None) -> bool:
    """Return whether all that was captured before the call gets into SQL, or a dead letter, in ``seconds``.

    ``key`` and ``deployment`` narrow what is waited for. The marks are set on all shards at the start, so
    that writes that go on do not lengthen the wait.
    """
    if deployment is not None:
        _require_deployment(shards, deployment)
    scope = [
        *([] if deployment is None else ["DEPLOYMENT", deployment]),
        *([] if key is None else ["KEY", key]),
    ]
    milliseconds = max(1, round(seconds * 1000))
    with ThreadPoolExecutor(max_workers=len(shards.shards)) as pool:
        futures = [pool.submit(_wait_one, shard, milliseconds, scope) for shard in shards.shards]
        reached = [future.result() for future in futures]
    return all(reached)


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
    return sentences + [each for each in status.attention(statuses) if "dead letter" not in each]


def _wait_one(shard: Shard, milliseconds: int, scope: list[str]) -> bool:
    client = same_server(shard.client, socket_timeout=milliseconds / 1000 + GRACE)
    try:
        with errors_of(shard.address):
            client.execute_command("GEARSYNC.WAIT", milliseconds, *scope)
    except CommandError as error:
        if isinstance(error.__cause__, redis.exceptions.ResponseError) and str(error.__cause__).startswith(
            "TIMEOUT"
        ):
            return False
        raise
    finally:
        client.close()
    return True


def _require_deployment(shards: Shards, name: str) -> None:
    for each in status.fetch(shards):
        known = [deployment["name"] for deployment in each["deployments"]]
        if name not in known:
            raise CommandError(
                f"there is no deployment {name} on {each['address']}.",
                f"one of {', '.join(known)}." if known else "deploy it first: gearsync deploy FILE.",
            )
