"""Look at the shards again and again, also while some of them are away."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import redis

from deploy import output, status
from deploy.output import CommandError
from deploy.reaching import shards
from deploy.reaching.server_errors import ShardError
from deploy.reaching.shards import Shards

#: Seconds that a shard may take to answer: one that hangs must not hold up what is shown of the others.
ANSWER_SECONDS = 5.0
#: Seconds after which a cluster is asked for its shards anew: one may have come, or have given all up.
AGAIN_SECONDS = 15.0


class Watch:
    """The status documents of all shards behind a URL, whenever they are asked for."""

    def __init__(self, url: str) -> None:
        """Find the shards. Raises ShardError when that can't be done: nothing is known to watch."""
        self._shards: Shards = shards.connect(url, ANSWER_SECONDS)
        self._url = url
        self._is_whole = True
        self._found_at = time.monotonic()

    @property
    def shards(self) -> Shards:
        """The shards as they were found last; closed when they are found anew."""
        return self._shards

    def look(self) -> list[dict[str, Any]]:
        """Return each shard's document as ``status.fetch`` does; of one that is away its address and error.

        After a failure the shards are found anew, because a promotion may have put another in its place.
        """
        is_old = time.monotonic() > self._found_at + AGAIN_SECONDS
        if not self._is_whole or (is_old and self._shards.kind == "cluster"):
            self._find_again()
        found = [status.fetch_or_error(shard) for shard in self._shards.shards]
        # A replica captures nothing: its place has been taken.
        self._is_whole = all("error" not in each and each["role"] != "replica" for each in found)
        return found

    def _find_again(self) -> None:
        self._found_at = time.monotonic()
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


class AwaitedWatch:
    """The same, of a Redis that may be away at first: until it answers, it is one shard that is away."""

    def __init__(self, url: str) -> None:
        """Look for it. Raises ShardError when waiting would not help: a URL or a login that is wrong."""
        self._url = url
        self._watch: Watch | None = None
        try:
            self._watch = Watch(url)
        except ShardError as error:
            if not _is_away(error):
                raise
            output.warning(f"{error.message} It is asked again whenever somebody wants its figures.")

    def look(self) -> list[dict[str, Any]]:
        """Return what ``Watch.look`` does."""
        if self._watch is None:
            try:
                self._watch = Watch(self._url)
            except ShardError as error:
                return [{"address": _place(self._url), "error": error.message}]
        return self._watch.look()

    def __enter__(self) -> AwaitedWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.close()


def _is_away(error: ShardError) -> bool:
    cause = error.__cause__
    is_lost = isinstance(cause, (redis.ConnectionError, redis.TimeoutError))
    return is_lost and not isinstance(cause, redis.exceptions.AuthenticationError)


def _place(url: str) -> str:
    """Return where a URL points to, without a login."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path
