"""The shard that this process is: its hash tag, its source, its epoch, and how its keys are called."""

from __future__ import annotations

import secrets
import sys
from typing import Any

from gears.redisgears.api import atomic, execute, hashtag
from gears.redisgears.names import lane_prefix

NO_CLUSTER = "0"
PROMOTION = 1 << 20
"""What a promotion adds at least to the epoch; a restart adds 1."""


def _metas() -> dict[str, str]:
    """What this process wrote last, by hash tag: one dict for all deployments and all their versions."""
    found: dict[str, str] = sys.__dict__.setdefault("_gearsync_metas", {})
    return found


class Shard:
    """``refresh`` before each use: a promotion, a restart or a resharding may have come in between."""

    def __init__(self) -> None:
        self.tag = ""
        self.source = ""
        self.epoch = 0
        self._registry = ""
        self._meta = ""

    def refresh(self) -> None:
        """Make sure that the epoch in Redis is one that this very process has raised, since it is primary.

        Each process raises it once; who finds another's value was a replica in between, or has another tag.
        """
        tag = hashtag() or NO_CLUSTER
        if tag != self.tag:
            self.tag = tag
            self._registry = f"gearsync:{{{tag}}}:registry"
        meta = execute("HGET", self._registry, "meta")
        if meta == self._meta and meta is not None:
            return
        with atomic():
            meta = execute("HGET", self._registry, "meta")
            if meta is None or _metas().get(tag) != meta:
                meta = self._raise_epoch(meta)
        self._meta = meta
        source, _, epoch = meta.partition(" ")
        self.source, self.epoch = source, int(epoch)

    def _raise_epoch(self, meta: str | None) -> str:
        if meta is None:
            source, epoch = secrets.token_hex(6), 1
        else:
            source, _, text = meta.partition(" ")
            epoch = int(text) + 1
        if meta is not None and (self.tag in _metas() or _was_promoted()):
            epoch = (epoch // PROMOTION + 1) * PROMOTION
        raised = f"{source} {epoch}"
        execute("HSET", self._registry, "meta", raised)
        _metas()[self.tag] = raised
        return raised

    def lane(self, deployment: str, target: str) -> str:
        """Return the stream of a target; RedisGears finds it by its beginning, so the names come first."""
        return f"{lane_prefix(deployment, target)}{{{self.tag}}}:{self.source}"


def _was_promoted() -> bool:
    """Whether this server became a primary by a promotion, and not by its start."""
    info: Any = execute("INFO", "replication")
    text = info if isinstance(info, str) else bytes(info).decode("latin-1")
    return any(
        line.startswith("second_repl_offset:") and line.strip() != "second_repl_offset:-1"
        for line in text.splitlines()
    )
