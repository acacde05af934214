"""A server with the module, and deployments whose worker is this test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import redis

from connectors import Target
from gears import module
from gears.applying.change import decode
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.mapping import Mapping
from gears.declaring.template import Template
from tests.servers import RedisServer


def server(*options: str, **settings: Any) -> RedisServer:
    """Return a server with the module, not started; no worker of Redis' own runs."""
    return RedisServer(*options, module=module.path(), module_arguments=["SUPERVISE", "no"], **settings)


def deploy(
    client: redis.Redis,
    name: str = "people",
    prefix: str = "person",
    db: int = 0,
    policies: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Deploy one function over ``<prefix>:{id}`` into ``<prefix>s``; ``settings`` are the deployment's."""
    mapping = Mapping(Template(prefix + ":{id}"), f"{prefix}s", {"name": "name"}, db=db, **(policies or {}))
    target = Target("sqlite:///unused.db", name="reporting")
    deployment = Deployment(
        name,
        functions=[Function(f"{prefix}s", mapping, "reporting")],
        targets={"reporting": target},
        worker="external",
        **settings,
    )
    client.execute_command("GEARSYNC.DEPLOY", *deployment.deploy_arguments())


def lanes(client: redis.Redis, name: str = "people") -> list[tuple[str, str]]:
    """Return (stream, dead-letter stream) of each lane of a deployment."""
    reply: Any = client.execute_command("GEARSYNC.LANES", name)
    return [(each[0].decode(), each[1].decode()) for each in reply[4]]


def changes(client: redis.Redis, name: str = "people") -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return what waits in the lanes of a deployment: ids, and each change's k, m and fields."""
    found = []
    for stream, _ in lanes(client, name):
        page: Any = client.xrange(stream)
        flat = [(entry_id, [part for pair in pairs.items() for part in pair]) for entry_id, pairs in page]
        sound, _ = decode(flat)
        found += [(each.entry_id, {b"k": each.key, b"m": each.meta, **each.image}) for each in sound]
    return found


def apply_all(client: redis.Redis, name: str = "people") -> None:
    """Do as a worker that has brought all that waits to SQL."""
    for stream, _ in lanes(client, name):
        last: Any = client.xrevrange(stream, count=1)
        if last:
            client.execute_command("GEARSYNC.ACK", stream, last[0][0])


def beat(client: redis.Redis, name: str = "people", **report: Any) -> None:
    """Report as a worker that runs."""
    full = {"worker": "w1", "version": 1, "pid": 1, "state": "running", "error": "", "targets": {}, **report}
    client.execute_command("GEARSYNC.HEARTBEAT", name, "w1", json.dumps(full))


def bury(
    client: redis.Redis,
    key: str | bytes,
    reason: str,
    image: dict[str, Any],
    functions: Sequence[str] = ("persons",),
    transaction: str = "",
    op: str = "u",
) -> str:
    """Write a dead letter as the worker does (docs/design.md); return its id."""
    _, stream = lanes(client)[0]
    fields: dict[Any, Any] = {
        "key": key,
        "op": op,
        "epoch": "1",
        "image": json.dumps(image),
        "reason": reason,
        "functions": json.dumps(list(functions)),
        "table": "persons",
        "column": "age",
        "at": 1_790_000_000_123,
    }
    if transaction:
        fields["transaction"] = transaction
    entry_id: Any = client.xadd(stream, fields)
    return str(entry_id.decode())
