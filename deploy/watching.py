"""Look at the shards again and again, also while some of them are away."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from deploy import shards, status
from deploy.output import CommandError
from deploy.shards import Shards

#: Seconds that a shard may take to answer: one that hangs must not hold up what is shown of the others.
ANSWER_SECONDS = 5.0


class Watch:
    """The status documents of all shards behind a URL, whenever they are asked for."""

    def __init__(self, url: str) -> None:
        """Find the shards. Raises ShardError when that can't be done: nothing is known to watch."""
        self._shards: Shards = shards.connect(url, ANSWER_SECONDS)
        self._url = url
        self._is_whole = True

    def look(self) -> list[dict[str, Any]]:
        """Return each shard's document as ``status.fetch`` does; of one that is away its address and error.

        After a failure the shards are found anew, because a promotion may have put another in its place.
        """
        if not self._is_whole:
            self._find_again()
        found = [status.fetch_or_error(shard) for shard in self._shards.shards]
        # A replica captures nothing: its place has been taken.
        self._is_whole = all("error" not in each and each["role"] != "replica" for each in found)
        return found

    def _find_again(self) -> None:
        try:
            now = self._shards.again(ANSWER_SECONDS)
        except CommandError:
            # What is known stays, and says itself why it is away.
            return
        self._shards.close()
        self._shards = now

    def close(self) -> None:
        """Close all connections."""
        self._shards.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
