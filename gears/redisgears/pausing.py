"""Whether a deployment, or a target of it, is paused here. It stands in a key, so that restarts, replicas and
upgrades know.
"""

from __future__ import annotations

import json
import time
from typing import Any

from gears.redisgears.api import atomic, execute
from gears.redisgears.names import pause_prefix
from gears.redisgears.shard import Shard

MOST_BYTES = 1000


class Pausing:
    """One deployment's pauses on this shard: ``target`` is one that is paused alone; empty: all of it."""

    def __init__(self, deployment: str, shard: Shard) -> None:
        self._deployment = deployment
        self._shard = shard

    def begin(self, by: str, reason: str, target: str = "") -> None:
        """Have nothing go to SQL any more. One that is paused already stays so since it was."""
        if len((by + reason).encode()) > MOST_BYTES:
            raise ValueError(f"who and why must have at most {MOST_BYTES} bytes together")
        with atomic():
            known = self.document(target) or {"since_ms": int(time.time() * 1000)}
            told = [" ".join(each.split()) for each in (by, reason)]
            made = {"since_ms": known["since_ms"], "by": told[0], "reason": told[1]}
            if target:
                execute("HSET", self._key(), _field(target), json.dumps(made))
            else:
                execute("HSET", self._key(), *(word for pair in made.items() for word in pair))

    def end(self, target: str = "") -> None:
        """Have it go on."""
        fields = [_field(target)] if target else ["since_ms", "by", "reason"]
        with atomic():
            execute("HDEL", self._key(), *fields)

    def document(self, target: str = "") -> dict[str, Any] | None:
        """Return who paused it alone and why; None: nobody did."""
        if target:
            told = execute("HGET", self._key(), _field(target))
            return None if told is None else dict(json.loads(told))
        since, by, reason = execute("HMGET", self._key(), "since_ms", "by", "reason")
        return None if since is None else {"since_ms": int(since), "by": by, "reason": reason}

    def reason(self, target: str) -> str:
        """Return the sentence for who would have to wait for a target; empty: it goes on."""
        what = f"the deployment {self._deployment}"
        found = self.document()
        if found is None:
            what = f"the target {target} of {what}"
            found = self.document(target)
        if found is None:
            return ""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found["since_ms"] / 1000))
        by = f" by {found['by']}" if found["by"] else ""
        why = f": {found['reason']}" if found["reason"] else ""
        return f"{what} is paused since {since}{by}{why}"

    def _key(self) -> str:
        self._shard.refresh()
        return self._shard.own(pause_prefix(self._deployment))


def _field(target: str) -> str:
    return f"target:{target}"
