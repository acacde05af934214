"""A shard with gearsync's own module: its commands (docs/design.md, "Module commands")."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import redis

from deploy.hosts import many
from deploy.hosts.base import Deployed, Host, Pause, Pauses, Row
from deploy.hosts.replies import text, typed
from gears.declaring.deployment import Deployment


class ModuleHost(Host):
    """The module does by itself what the command line asks."""

    title = "the gearsync module"
    tells_waiting = True

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.client.execute_command("GEARSYNC.STATUS"))
        for deployment in document["deployments"]:
            for function in deployment.get("functions", []):
                # The module writes each byte that is not ASCII as one character.
                function["name"] = function["name"].encode("latin-1").decode("utf-8")
        return document

    def deployments(self) -> dict[str, Deployed]:
        rows: Any = self.client.execute_command("GEARSYNC.DEPLOYMENTS")
        made = (Deployed(text(row[0]), int(row[1]), text(row[2]), text(row[3])) for row in rows)
        return {each.name: each for each in made}

    def refusal(self, deployment: Deployment) -> str:
        name, version, *rest = deployment.deploy_arguments()
        try:
            self.client.execute_command("GEARSYNC.DEPLOY", name, version, "CHECK", *rest)
        except redis.ResponseError as error:
            return f"the shard refuses the deployment: {error}"
        return ""

    def prepare(self) -> None:
        pass

    def require_ready(self, shards: int) -> None:
        pass

    def bring(self, deployment: Deployment, progress: Callable[[str], None]) -> None:
        """Nothing: each worker installs what its deployment requires, when it starts."""

    def deploy(self, deployment: Deployment) -> None:
        self.client.execute_command("GEARSYNC.DEPLOY", *deployment.deploy_arguments())

    def versions(self, name: str) -> list[Deployed]:
        rows: Any = self.client.execute_command("GEARSYNC.VERSIONS", name)
        return [Deployed(name, int(version), "replaced", text(payload)) for version, payload, _ in rows]

    def wheels(self, name: str) -> set[str]:
        found: Any = self.client.hkeys(f"gearsync:{{{self.status()['tag']}}}:wheels:{name}")
        return {text(each) for each in found}

    def deploy_paused(self, deployment: Deployment, pauses: Pauses) -> None:
        # Between two of them a worker could begin.
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("GEARSYNC.DEPLOY", *deployment.deploy_arguments())
            if pauses.whole is not None:
                pipeline.execute_command(*_pause(deployment.name, pauses.whole))
            for target, pause in pauses.targets.items():
                pipeline.execute_command(*_pause(deployment.name, pause), "TARGET", target)
            pipeline.execute()

    def pause(
        self, name: str, pause: Pause, functions: Sequence[str] = (), targets: Sequence[str] = ()
    ) -> None:
        self.client.execute_command(*_pause(name, pause), *_parts(functions, targets))

    def resume(self, name: str, functions: Sequence[str] = (), targets: Sequence[str] = ()) -> None:
        self.client.execute_command("GEARSYNC.RESUME", name, *_parts(functions, targets))

    def undeploy(self, name: str, discard: bool) -> None:
        self.client.execute_command("GEARSYNC.UNDEPLOY", name, *(["DISCARD"] if discard else []))

    def finish(self, name: str) -> None:
        pass

    def recapture(self, deployment: str, key: bytes) -> tuple[Any, ...]:
        return "GEARSYNC.RECAPTURE", key

    def captured(self, reply: Any) -> int:
        return int(reply)

    def backfill(self, deployment: str, keys: Sequence[bytes]) -> tuple[Any, ...]:
        return "GEARSYNC.BACKFILL", *keys

    def backfilled(self, reply: Any) -> list[int]:
        return [int(each) for each in reply]

    def arrivals(self) -> str:
        return str(self.status()["came"])

    def mark(self) -> bytes:
        reply: bytes = self.client.execute_command("GEARSYNC.MARK")
        return reply

    def put(self, deployment: str, db: int, ttl_ms: int, since: bytes, rows: Sequence[Row]) -> int:
        words: list[Any] = []
        for key, fields in rows:
            words += (key, len(fields))
            for pair in fields.items():
                words += pair
        command = "GEARSYNC.PUT", deployment, db, "ABSENT", "SINCE", since, ttl_ms, len(rows)
        return int(self.client.execute_command(*command, *words))

    def images(
        self, client: redis.Redis, db: int, fields: Sequence[bytes] | None, keys: Sequence[bytes]
    ) -> list[list[bytes | None] | None]:
        reply: Any = many.execute(client, "GEARSYNC.IMAGES", db, *_counted(fields), *keys)
        images: list[list[bytes | None] | None] = reply[0]
        return images

    def images_since(
        self,
        client: redis.Redis,
        db: int,
        fields: Sequence[bytes] | None,
        keys: Sequence[bytes],
        since: bytes,
    ) -> tuple[list[list[bytes | None] | None], list[int]]:
        words = "SINCE", since, *_counted(fields), *keys
        reply: Any = client.execute_command("GEARSYNC.IMAGES", db, *words)
        return reply[0], reply[1]

    def wait(self, milliseconds: int, deployment: str | None, key: str | None) -> bool:
        scope = [] if deployment is None else [b"DEPLOYMENT", typed(deployment)]
        if key is not None:
            scope += [b"KEY", typed(key)]
        try:
            self.client.execute_command("GEARSYNC.WAIT", milliseconds, *scope)
        except redis.ResponseError as error:
            # PAUSED is told at once, and no longer wait would change it.
            if str(error).startswith(("TIMEOUT", "PAUSED")):
                return False
            raise
        return True


def _pause(name: str, pause: Pause) -> tuple[str | bytes, ...]:
    return "GEARSYNC.PAUSE", name, typed(pause.by), typed(pause.reason)


def _parts(functions: Sequence[str], targets: Sequence[str]) -> list[str]:
    if functions:
        return ["FUNCTION", *functions]
    return ["TARGET", *targets] if targets else []


def _counted(fields: Sequence[bytes] | None) -> list[Any]:
    return [-1] if fields is None else [len(fields), *fields]
