"""Sees that RedisGears reads streams anew when this server is a primary again, after it was a replica.

RedisGears goes on where it was: what the other primary has captured meanwhile it would read with the next
write only, no more of it at once than one batch, and nothing of what that one had read already. It reads all
anew after a failure. So the first batch after such a promotion fails, and an entry that is none sees to one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gears.applying import change as changes
from gears.redisgears.api import atomic, execute, log, start_thread
from gears.redisgears.place import is_primary
from gears.redisgears.shard import Shard

LOOK_SECONDS = 1.0


class ReadAnew(Exception):
    """What RedisGears takes for all that waits is not all of it: it has to read the stream anew."""


class Promotions:
    """Watches for promotions, for the streams of this shard that begin with ``prefixes``."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefixes = prefixes
        # Its own: the thread looks at another moment than those whose shard is refreshed for a use.
        self._shard = Shard()
        self._known = ("", "")
        self._outdated: dict[str, str] = {}
        """Which streams are to be read anew, with the entry that was added to each."""
        self._is_closed = threading.Event()
        start_thread(self._watch)

    def close(self) -> None:
        """End within a second."""
        self._is_closed.set()

    def require_read(self, stream: str) -> None:
        """Raise ReadAnew where RedisGears has to read a stream anew, once."""
        with atomic():
            added = self._outdated.pop(stream, None)
            if added is not None:
                execute("XDEL", stream, added)
                raise ReadAnew("this server was a replica meanwhile; the stream is read anew")

    def _watch(self) -> None:
        error = ""
        while True:
            try:
                self.look()
                error = ""
            except Exception as failed:
                # A node of a cluster may have no slot yet.
                if str(failed) != error:
                    error = str(failed)
                    log(f"it can't be seen whether this server was promoted: {error}", "warning")
            if self._is_closed.wait(LOOK_SECONDS):
                return

    def look(self) -> None:
        """See whether this server was promoted since."""
        with atomic():
            if not is_primary():
                return
            self._shard.refresh()
            (source, life), self._known = self._known, (self._shard.source, self._shard.life)
            # After a flush there is another source, with streams of its own.
            if source == self._shard.source and life != self._shard.life:
                for prefix in self._prefixes:
                    self._ask(self._shard.own(prefix))

    def _ask(self, stream: str) -> None:
        """Have RedisGears look into a stream, if anything waits there.

        Should this server die before it does: the end of no key, which is passed over.
        """
        if execute("XLEN", stream):
            meta = f"{changes.DELETED.decode()}{self._shard.epoch:x}"
            self._outdated[stream] = execute("XADD", stream, "*", "k", "", "m", meta)
