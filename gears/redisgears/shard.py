"""The shard that this process is: its hash tag, its source, its epoch, and how its keys are called."""

from __future__ import annotations

import secrets
import sys
from typing import Any

from gears.applying.slots import SLOTS, slot_of
from gears.redisgears.api import atomic, execute
from gears.redisgears.names import lane_prefix
from gears.redisgears.servers import WRONG_SLOTS, files_wrongly

NO_CLUSTER = "0"
PROMOTION = 1 << 20
"""What a promotion adds at least to the epoch; a restart adds 1."""


class WrongServer(Exception):
    """The server was exchanged for one on which nothing may be captured."""


class NoSlot(Exception):
    """There is no key that this node of a cluster may write."""


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
        if not self.tag:
            self._find_tag()
        try:
            meta = execute("HGET", self._registry, "meta")
        except Exception:
            # Its slot is another shard's now, perhaps.
            self._find_tag()
            meta = execute("HGET", self._registry, "meta")
        if meta == self._meta and meta is not None:
            return
        tag = self.tag
        with atomic():
            meta = execute("HGET", self._registry, "meta")
            if meta is None or _metas().get(tag) != meta:
                meta = self._raise_epoch(meta)
        self._meta = meta
        source, _, epoch = meta.partition(" ")
        self.source, self.epoch = source, int(epoch)

    def _find_tag(self) -> None:
        """Choose the first tag of a slot that is this shard's. RedisGears' own is unknown after a restart."""
        self.tag = NO_CLUSTER
        if "cluster_enabled:1" in _text(execute("INFO", "cluster")):
            if files_wrongly(_version(_text(execute("INFO", "server"))), True):
                raise WrongServer(WRONG_SLOTS)
            owned = _own_slots(_text(execute("CLUSTER", "NODES")))
            self.tag = next((tag for tag in map(str, range(SLOTS * 4)) if slot_of(tag.encode()) in owned), "")
            if not self.tag:
                raise NoSlot("this node of the cluster has no slot, and so no place for its streams")
        self._registry = f"gearsync:{{{self.tag}}}:registry"
        self._meta = ""

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
        return self.own(lane_prefix(deployment, target))

    def own(self, prefix: str) -> str:
        """Return the key of this shard that begins so."""
        return f"{prefix}{{{self.tag}}}:{self.source}"


def _version(info: str) -> str:
    found = [line.strip() for line in info.splitlines() if line.startswith("redis_version:")]
    return found[0].partition(":")[2]


def _own_slots(nodes: str) -> set[int]:
    """Return the slots of the node that gave this answer of CLUSTER NODES."""
    owned: set[int] = set()
    for line in nodes.splitlines():
        words = line.split()
        if len(words) > 8 and "myself" in words[2].split(","):
            for word in words[8:]:
                first, _, last = word.partition("-")
                # [slot->-node] is a slot on its way.
                if first.isdigit():
                    owned.update(range(int(first), int(last or first) + 1))
    return owned


def _text(reply: Any) -> str:
    return reply if isinstance(reply, str) else bytes(reply).decode("latin-1")


def _was_promoted() -> bool:
    """Whether this server became a primary by a promotion, and not by its start."""
    text = _text(execute("INFO", "replication"))
    return any(
        line.startswith("second_repl_offset:") and line.strip() != "second_repl_offset:-1"
        for line in text.splitlines()
    )
