"""The field ``#`` of functions with operations: taken out of the hash in the very command that wrote it.

RedisGears calls in the middle of the command: what is done then is replicated *before* the write itself. So
the AOF and the replicas end up with the field, or with the key that is to be deleted. A mark, in a stream of
its own and in the write's own transaction, says so; soon after, RedisGears hands it out, and what those lack
is done so that it counts for them too. After a crash or a promotion the mark is still there.
"""

from __future__ import annotations

from typing import Any

from gears.applying import change as changes
from gears.applying.acknowledgments import Acknowledgment, stream_of
from gears.declaring.deployment import Deployment
from gears.declaring.mapping import OPERATION
from gears.redisgears.api import as_bytes, atomic, execute
from gears.redisgears.capture import Capture
from gears.redisgears.drain import GROUP, trim
from gears.redisgears.group import Group
from gears.redisgears.names import late_prefix
from gears.redisgears.place import is_primary
from gears.redisgears.shard import NotPrimary, Shard

WRITES = ("hset", "hincrby", "hincrbyfloat")
"""The events of commands that a client says an operation with."""
ARRIVALS = ("rename_to", "copy_to", "restore", "move_to")
"""Those by which a hash comes whole: its field ``#`` is nobody's wish."""
DELETING = (b"-", b"~")
FIELD, KEY = "field", "key"
"""What a mark says is to be gone."""


class OperatingCapture(Capture):
    """Capture where a function has operations."""

    def __init__(self, deployment: Deployment, shard: Shard) -> None:
        super().__init__(deployment, shard)
        self._late = ""
        self._settles = False

    def on_event(self, record: dict[str, Any]) -> bool:
        if self._quiet[0] or self._settles:
            return False
        key, event = record["key"], record["event"]
        if event not in WRITES and event not in ARRIVALS:
            return super().on_event(record)
        try:
            name = as_bytes(key)
            if any(group.operates(name) for group in self._groups):
                held = _held(key)
                if held is not None:
                    self.refresh()
                    self._operate(key, name, event, as_bytes(held))
                    return False
        except Exception as error:
            # The write has happened and can't be taken back: what can't be done is at least told.
            self._tell(key, event, error)
            return False
        return super().on_event(record)

    def _operate(self, key: Any, name: bytes, event: str, held: bytes) -> None:
        kind, ticket = (held[:1], held[1:]) if event in WRITES else (b"=", b"")
        execute("XADD", self._late, "*", "k", key, "gone", KEY if kind in DELETING else FIELD)
        execute("HDEL", key, OPERATION)
        acknowledged = Acknowledgment("", stream_of(name, ticket), "") if ticket else None
        for group in self._groups:
            if not group.covers(name):
                continue
            if not group.operates(name):
                self._append_plain(group, key, kind, event)
            elif not self._append_asked(group, key, kind, event, held, ticket) and acknowledged:
                for words in acknowledged.commands():
                    execute(*words)
        if kind in DELETING:
            execute("DEL", key)

    def _append_plain(self, group: Group, key: Any, kind: bytes, event: str) -> None:
        """For functions without operations a key was written, or deleted."""
        if kind in DELETING:
            group.append(key, "m", self._metas[changes.DELETED])
        else:
            # Without the field there may be no hash: then there was none before.
            self._append(group, key, self.op_of(event), b"")

    def _append_asked(
        self, group: Group, key: Any, kind: bytes, event: str, held: bytes, ticket: bytes
    ) -> bool:
        """Append what the operation asks for; return whether there is anything."""
        if kind in (b"+", b"-"):
            return False
        image: list[Any] | None = []
        op, text = changes.TAKEN, ticket
        if kind != b"~":
            image = group.image(key)
            op, text = (self.op_of(event), ticket) if kind == b"=" else (changes.REJECTED, held)
        if image is None:
            # The operation was all that the hash held.
            return False
        meta = b"%s%x" % (op, self._shard.epoch) + (b":" + text if text else b"")
        group.append(key, "m", meta, *image)
        return True

    # -- What the AOF and the replicas lack --------------------------------------------------------------

    def on_marks(self, stream: str) -> None:
        """Of StreamReader, in a thread of RedisGears: bring those up to what is here."""
        pending = execute("XPENDING", stream, GROUP)
        if not pending[0]:
            return
        for entry_id, pairs in execute("XRANGE", stream, pending[1], pending[2]):
            with atomic():
                if not is_primary():
                    raise NotPrimary("this server is a replica")
                if pairs[3] == KEY:
                    self._settle_key(pairs[1])
                else:
                    with self._written.quietly():
                        _settle_field(pairs[1])
                trim(stream, entry_id)

    def _settle_key(self, key: Any) -> None:
        """Do for the others what was done here before they had the write.

        Only what changes something is sent. Other deployments may have been told of that write before the key
        went, which nobody has told them.
        """
        self._settles = True
        try:
            with self._written.past_hooks():
                kind = execute("TYPE", key)
                if kind == "none":
                    with self._written.quietly():
                        execute("SET", key, "")
                    execute("DEL", key)
                elif kind == "hash" and execute("HEXISTS", key, OPERATION):
                    # This server was such another one.
                    execute("DEL", key)
                elif kind == "hash":
                    # It was made again since, but not of what others still have.
                    left = execute("PTTL", key)
                    execute("RESTORE", key, max(0, left), execute("DUMP", key), "REPLACE")
        finally:
            self._settles = False

    def _look(self) -> None:
        super()._look()
        self._late = self._shard.own(late_prefix(self._deployment.name))


def _held(key: Any) -> Any:
    """Return what the field holds; None: there is none, or it is no hash."""
    try:
        return execute("HGET", key, OPERATION)
    except Exception as error:
        if "WRONGTYPE" in str(error):
            return None
        raise


def _settle_field(key: Any) -> None:
    """The same where only the field is to be gone."""
    kind = execute("TYPE", key)
    if kind == "none":
        execute("SET", key, "")
        execute("DEL", key)
    elif kind == "hash":
        if not execute("HEXISTS", key, OPERATION):
            execute("HSET", key, OPERATION, "")
        execute("HDEL", key, OPERATION)
