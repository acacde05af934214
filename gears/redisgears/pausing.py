"""Whether a deployment is paused here. It stands in a key, so that restarts, replicas and upgrades know."""

from __future__ import annotations

import time
from typing import Any

from gears.redisgears.api import atomic, execute
from gears.redisgears.names import pause_prefix
from gears.redisgears.shard import Shard

MOST_BYTES = 1000


class Pausing:
    """One deployment's pause on this shard."""

    def __init__(self, deployment: str, shard: Shard) -> None:
        self._deployment = deployment
        self._shard = shard

    def begin(self, by: str, reason: str) -> None:
        """Have nothing go to SQL any more. One that is paused already stays so since it was."""
        if len((by + reason).encode()) > MOST_BYTES:
            raise ValueError(f"who and why must have at most {MOST_BYTES} bytes together")
        with atomic():
            known = self.document() or {"since_ms": int(time.time() * 1000)}
            told = [" ".join(each.split()) for each in (by, reason)]
            execute("HSET", self._key(), "since_ms", known["since_ms"], "by", told[0], "reason", told[1])

    def end(self) -> None:
        """Have it go on."""
        with atomic():
            execute("DEL", self._key())

    def document(self) -> dict[str, Any] | None:
        """Return who paused it and why; None: it goes on."""
        since, by, reason = execute("HMGET", self._key(), "since_ms", "by", "reason")
        return None if since is None else {"since_ms": int(since), "by": by, "reason": reason}

    def reason(self) -> str:
        """Return the sentence for who would have to wait; empty: it goes on."""
        found = self.document()
        if found is None:
            return ""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found["since_ms"] / 1000))
        by = f" by {found['by']}" if found["by"] else ""
        why = f": {found['reason']}" if found["reason"] else ""
        return f"the deployment {self._deployment} is paused since {since}{by}{why}"

    def _key(self) -> str:
        self._shard.refresh()
        return self._shard.own(pause_prefix(self._deployment))
