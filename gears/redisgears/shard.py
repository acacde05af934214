"""The shard that this process is: its hash tag, its source, its epoch, and how its keys are called."""

from __future__ import annotations

import secrets
import sys
import time
from typing import Any

from gears.applying.slots import SLOTS, slot_of
from gears.redisgears.api import atomic, execute
from gears.redisgears.names import lane_prefix
from gears.redisgears.place import is_primary
from gears.redisgears.servers import WRONG_SLOTS, files_wrongly

NO_CLUSTER = "0"
PROMOTION = 1 << 20
"""What a promotion adds at least to the epoch; a restart adds 1."""
BELIEVED_SECONDS = 0.001
"""How long who captures believes which shard this is: no server is demoted, synchronised and promoted in
that."""


class NotPrimary(Exception):
    """This server is a replica: its epoch is not its own."""


class WrongServer(Exception):
    """The server was exchanged for one on which nothing may be captured."""


class NoSlot(Exception):
    """There is no key that this node of a cluster may write."""


def _metas() -> dict[str, str]:
    """What this process wrote last, by hash tag: one dict for all deployments and all their versions."""
    found: dict[str, str] = sys.__dict__.setdefault("_gearsync_metas", {})
    return found


def _lives() -> dict[str, tuple[str, str]]:
    """What this process wrote last, with its life then (connectors/bookkeeping/lives.py), by hash tag.

    An older version of this code writes without saying so here.
    """
    found: dict[str, tuple[str, str]] = sys.__dict__.setdefault("_gearsync_lives", {})
    return found


class Shard:
    """``refresh`` before each use: a promotion, a restart or a resharding may have come in between."""

    def __init__(self) -> None:
        self.tag = ""
        self.source = ""
        self.epoch = 0
        self.life = ""
        """What tells this time as a primary from others, also of the same epoch; empty: unknown."""
        self._registry = ""
        self._meta = ""

    def refresh(self) -> None:
        """Make sure that the epoch in Redis is one that this very process has raised, since it is primary.

        Each process raises it once; who finds another's value was a replica in between, or has another tag.
        Raises NotPrimary where it is a replica, and the value its primary's.
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
                if not is_primary():
                    raise NotPrimary("this server is a replica")
                meta = self._raise_epoch(meta)
            known, life = _lives().get(tag, ("", ""))
        self._meta = meta
        source, _, epoch = meta.partition(" ")
        self.source, self.epoch, self.life = source, int(epoch), life if known == meta else ""

    @property
    def who(self) -> str:
        """What follows the @ in the names of those who claim streams for it."""
        return f"{self.source}.{self.life}" if self.life else self.source

    @property
    def who_anew(self) -> str:
        """The same, as if a life began in this epoch."""
        return f"{self.source}.{_life_of(self.epoch)}"

    def outrank(self, epoch: int) -> None:
        """Have an epoch above that one, in which another life of this shard has claimed a stream.

        It is as high as a promotion makes it: that life may go on, and restart. Raises NotPrimary.
        """
        with atomic():
            self.refresh()
            if self.epoch <= epoch:
                self._write(f"{self.source} {_promoted(epoch)}", self.life)
                # Whoever captures looks again before it does so.
                time.sleep(2 * BELIEVED_SECONDS)
                self.refresh()

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
        own = _metas().get(self.tag)
        if meta is None:
            source, epoch = secrets.token_hex(6), 1
        else:
            source, _, text = meta.partition(" ")
            epoch = int(text) + 1
            if own is not None:
                # No second life of this process has the epoch of its first.
                epoch = _promoted(max(epoch, int(own.partition(" ")[2])))
            elif _was_promoted():
                epoch = _promoted(epoch)
        return self._write(f"{source} {epoch}", _life_of(epoch))

    def _write(self, meta: str, life: str) -> str:
        execute("HSET", self._registry, "meta", meta)
        _metas()[self.tag] = meta
        _lives()[self.tag] = meta, life
        return meta

    def lane(self, deployment: str, target: str) -> str:
        """Return the stream of a target; RedisGears finds it by its beginning, so the names come first."""
        return self.own(lane_prefix(deployment, target))

    def own(self, prefix: str) -> str:
        """Return the key of this shard that begins so."""
        return f"{prefix}{{{self.tag}}}:{self.source}"


def _life_of(epoch: int) -> str:
    """Return the name of a life that begins in an epoch."""
    return f"{epoch:x}-{secrets.token_hex(6)}"


def _promoted(epoch: int) -> int:
    """Return the first epoch of a promotion after that one."""
    return (epoch // PROMOTION + 1) * PROMOTION


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
