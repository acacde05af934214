"""Where a backfill has come to on each shard, kept in Redis until it is done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards


@dataclass
class Counts:
    """Keys so far: ``scanned``: SCAN named them; ``captured``; ``gone``: deleted, or no hash any more, when
    their turn came; ``uncovered``: no function covers them after all. A key that SCAN names twice counts
    twice.
    """

    scanned: int = 0
    captured: int = 0
    gone: int = 0
    uncovered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass
class Progress:
    """How far one server is.

    ``scan``: which of the scans is under way, from 0, and ``cursor`` where it goes on; ``arrivals``: what
    ``Host.arrivals`` was before the first. ``done``: all keys that were there then are captured. ``scope``:
    whose progress it is, since two backfills may run at once; see ``Place``.
    """

    address: str
    arrivals: str
    scan: int = 0
    cursor: int = 0
    done: bool = False
    counts: Counts = field(default_factory=Counts)
    scope: str = ""

    def to_json(self) -> str:
        """Return it as ``from_json`` takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Progress:
        """Return what ``to_json`` has written."""
        document: dict[str, Any] = json.loads(text)
        return cls(**{**document, "counts": Counts(**document["counts"])})


class Place:
    """The progress of each server by its run id, since a cursor of SCAN means nothing to another process.

    ``scope`` is what tells this backfill from others of the deployment. One of another scope that runs at the
    same time writes to the same place, and takes it along when it ends; its progress is none of this one.
    """

    def __init__(self, deployment: str, scope: str = "") -> None:
        self._key = f"gearsync:{{0}}:backfill:{deployment}"
        self._scope = scope
        self._digest = hashlib.sha256(scope.encode()).hexdigest()[:16]

    def read(self, shards: Shards) -> dict[str, Progress] | None:
        """Return what is known by run id; None: it was of another backfill, and is forgotten.

        Raises ShardError.
        """
        reply: Any = self._command(shards, "HGETALL")
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2])
        found = {name.decode(): value for name, value in pairs}
        is_other = found.pop("scope", self._scope.encode()) != self._scope.encode()
        if is_other:
            self.forget(shards)
        self._command(shards, "HSET", "scope", self._scope)
        if is_other:
            return None
        progress = {run_id: Progress.from_json(text) for run_id, text in found.items()}
        return {run_id: each for run_id, each in progress.items() if each.scope == self._digest}

    def write(self, shards: Shards, run_id: str, progress: Progress) -> None:
        """Remember how far a server is. Raises ShardError."""
        progress.scope = self._digest
        self._command(shards, "HSET", run_id, progress.to_json())

    def forget(self, shards: Shards) -> None:
        """Forget all of it. Raises ShardError."""
        self._command(shards, "DEL")

    def _command(self, shards: Shards, name: str, *arguments: str) -> Any:
        shard = shards.of_key(self._key.encode())
        with errors_of(shard.address):
            return shards.on_key(shard.client, name, self._key, *arguments)
