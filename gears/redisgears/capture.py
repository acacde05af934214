"""From an event of a covered key to a change in each target's lane, in the very command that made it.

This is the hot path: it runs on Redis' main thread. It never raises: RedisGears would only count that.
"""

from __future__ import annotations

import time
from time import monotonic
from typing import Any

from gears.applying import change as changes
from gears.declaring.deployment import Deployment
from gears.redisgears.api import as_bytes, execute, log
from gears.redisgears.events import ENDS, OF_HASHES, OF_STRINGS
from gears.redisgears.group import Group
from gears.redisgears.names import NOT_TEXT, OWN_KEYS, SEPARATOR, dead_of
from gears.redisgears.plain import OnEvent, is_possible, way
from gears.redisgears.shard import BELIEVED_SECONDS, Shard
from gears.redisgears.written import Written

_OPS = {
    "hdel": changes.REMOVED,
    "hexpired": changes.REMOVED,
    **dict.fromkeys(("rename_to", "copy_to", "restore", "move_to"), changes.REPLACED),
}
_WRITTEN = (changes.UPSERT, changes.REMOVED, changes.REPLACED, *changes.GONE)
_GONE = {
    "expired": changes.EXPIRED,
    "hexpired": changes.EXPIRED,
    "evicted": changes.EVICTED,
    # With its last field the key goes, which an event of its own says.
    "hdel": b"",
}


class Capture:
    """Captures for one deployment.

    ``failed`` counts changes, ``missed`` events of keys that have a template's prefix alone.
    """

    def __init__(self, deployment: Deployment, shard: Shard) -> None:
        self._deployment = deployment
        self._shard = shard
        targets = dict.fromkeys(each.target_name for each in deployment.capturing)
        self._groups = [Group(deployment, target) for target in targets]
        self._written = Written()
        for group in self._groups:
            group.watched = self._written.watched
        self._quiet = self._written.quiet
        self._fresh_until = [0.0]
        self._place: tuple[str, str, int] | None = None
        self._metas: dict[bytes, str] = {}
        self.failed = 0
        self.missed = 0
        self.missed_key = b""
        self.quick: OnEvent = self.on_event
        """The same as ``on_event``, in the quickest way there is."""
        if type(self) is Capture and is_possible(self._groups):
            self.quick = way(self._groups[0], self._quiet, self._fresh_until, self._look, self.on_event)

    def on_event(self, record: dict[str, Any]) -> bool:
        """Capture what an event of RedisGears says of its key; False: there is nothing to go on with."""
        if self._quiet[0]:
            return False
        key, event = record["key"], record["event"]
        try:
            self.refresh()
            name = key.encode() if type(key) is str else bytes(key)
            if not name.startswith(OWN_KEYS):
                is_covered = False
                for group in self._groups:
                    if group.covers(name):
                        is_covered = True
                        self._append_after(event, group, key)
                if not is_covered:
                    self.missed += 1
                    self.missed_key = name
        except Exception as error:
            # The write has happened and can't be taken back: what can't be captured is at least told.
            self._tell(key, event, error)
        return False

    @property
    def captured(self) -> int:
        """How many changes were captured."""
        return sum(each.captured for each in self._groups)

    def counts(self) -> dict[str, int]:
        """Return how many changes were captured for each target."""
        return {each.target: each.captured for each in self._groups}

    def counts_of_functions(self) -> list[dict[str, Any]]:
        """Return the functions with their targets; how many changes each had is known where it is alone."""
        return [
            {
                "name": name,
                "target": each.target,
                "captured": each.captured if len(each.functions) == 1 else None,
            }
            for each in self._groups
            for name in each.functions
        ]

    def refresh(self) -> None:
        """Know which shard this is, and in which epoch."""
        if monotonic() >= self._fresh_until[0]:
            self._look()

    @staticmethod
    def op_of(event: str) -> bytes:
        """Return the operation after an event that leaves a hash."""
        return _OPS.get(event, changes.UPSERT)

    def is_held(self, name: bytes) -> bool:
        """Whether a key is what its functions take: a hash, or a document."""
        wanted = b"string" if any(group.holds_document(name) for group in self._groups) else b"hash"
        return as_bytes(execute("TYPE", name)) == wanted

    def again(self, name: bytes) -> int:
        """Capture the present state of a key; return for how many targets."""
        self._look()
        before = self.captured
        for group in self._groups:
            if group.covers(name):
                self._append(group, name, changes.REMOVED, changes.DELETED)
        return self.captured - before

    def _append_after(self, event: str, group: Group, key: Any) -> None:
        """Append a key's state after an event, unless it is of another type than what its function takes."""
        if event not in (OF_HASHES if group.holds_document(key) else OF_STRINGS):
            self._append(group, key, self.op_of(event), _GONE.get(event, changes.DELETED), event in ENDS)

    def _append(self, group: Group, key: Any, op: bytes, gone: bytes, may_be_none: bool = True) -> None:
        """Append a key's state to a lane: a hash under ``op``, none under ``gone`` (empty: not at all).

        RedisGears tells of keys in all databases, and not of which: a key that must be there, and is not,
        is one of another database, where nothing is captured.
        """
        image = group.image(key)
        if image is not None:
            label = "m"
            if op == changes.UPSERT and group.holds_document(key):
                # A document that is written anew lacks what it has not.
                op = changes.REMOVED
            if group.fields is None and not all(type(name) is str for name in image[::2]):
                label = NOT_TEXT
                image[::2] = [as_bytes(name).decode("latin-1") for name in image[::2]]
            group.append(key, label, self._metas[op], *image)
        elif gone and (may_be_none or execute("EXISTS", key)):
            group.append(key, "m", self._metas[gone])

    def _look(self) -> None:
        """See which shard this is, and in which epoch."""
        self._shard.refresh()
        self._fresh_until[0] = monotonic() + BELIEVED_SECONDS
        place = (self._shard.tag, self._shard.source, self._shard.epoch)
        if place == self._place:
            return
        self._metas = {op: f"{op.decode()}{self._shard.epoch:x}" for op in _WRITTEN}
        for group in self._groups:
            group.lane = self._shard.lane(self._deployment.name, group.target)
            group.marks = self._written.marks(group.lane, self._shard.epoch)
            group.place[:] = group.lane, SEPARATOR + self._metas[changes.UPSERT]
        self._place = place

    def _tell(self, key: Any, event: str, error: Exception) -> None:
        """Make a dead letter in each target; what happens to that is in the server's log at least."""
        self.failed += 1
        reason = f"the change could not be captured after the event {event}: {error}"
        log(f"key {key!r:.200}: {reason}", "warning")
        try:
            for group in self._groups:
                if group.covers(as_bytes(key)):
                    fields = {"key": key, "op": "u", "epoch": self._shard.epoch, "image": "{}"}
                    fields.update(reason=reason, functions="[]", table="", column="")
                    fields["at"] = int(time.time() * 1000)
                    stream = dead_of(self._shard.lane(self._deployment.name, group.target))
                    execute("XADD", stream, "*", *(part for pair in fields.items() for part in pair))
        except Exception as another:
            log(f"key {key!r:.200}: no dead letter could be made: {another}", "warning")
