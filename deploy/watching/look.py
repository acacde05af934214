"""Look at the shards again and again, also while some of them are away."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import redis

from deploy import output, status
from deploy.output import CommandError
from deploy.reaching import shards
from deploy.reaching.server_errors import ShardError
from deploy.reaching.shards import Shards
from gears.worker.aside import aside

#: Seconds that a shard may take to answer: one that hangs must not hold up what is shown of the others.
#: With the next, it is less than Prometheus waits (compose/monitoring/prometheus.yml).
ANSWER_SECONDS = 3.0
#: Seconds for which a look waits until the shards are found anew; then it goes on with those that are known.
FIND_SECONDS = 1.0
#: Seconds after which a cluster is asked for its shards anew: one may have come, or have given all up.
AGAIN_SECONDS = 15.0

Found = TypeVar("Found", "Watch", Shards)


class _Finding(Generic[Found]):
    """What is found by a thread of its own: a server that hangs is waited for by nobody else."""

    def __init__(self, find: Callable[[], Found]) -> None:
        self._future: Future[Found] = aside(find)

    def result(self) -> Found | None:
        """Return what was found, or None when that takes longer. Raises what finding it has raised."""
        try:
            return self._future.result(FIND_SECONDS)
        except FutureTimeoutError:
            return None

    def drop(self) -> None:
        """Close what is found once it is."""
        self._future.add_done_callback(lambda done: None if done.exception() else done.result().close())


class Watch:
    """The status documents of all shards behind a URL, or of those that were found, whenever they are asked
    for.
    """

    def __init__(self, place: str | Shards) -> None:
        """Find the shards. Raises ShardError when that can't be done: nothing is known to watch."""
        self._shards: Shards = _connect(place) if isinstance(place, str) else place
        self._is_whole = True
        self._found_at = time.monotonic()
        self._finding: _Finding[Shards] | None = None

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
        with ThreadPoolExecutor(max(1, len(self._shards.shards))) as pool:
            found = list(pool.map(status.fetch_or_error, self._shards.shards))
        # A replica captures nothing: its place has been taken.
        self._is_whole = all("error" not in each and each["role"] != "replica" for each in found)
        return found

    def _find_again(self) -> None:
        if self._finding is None:
            self._found_at = time.monotonic()
            known = self._shards
            self._finding = _Finding(lambda: known.again(ANSWER_SECONDS, needs_host=False))
        try:
            now = self._finding.result()
        except CommandError:
            # What is known stays, and says itself why it is away.
            self._finding = None
            return
        if now is not None:
            self._finding = None
            self._shards.close()
            self._shards = now

    def close(self) -> None:
        """Close all connections."""
        if self._finding is not None:
            self._finding.drop()
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
        self._finding: _Finding[Watch] | None = None
        self._problem = ""
        try:
            self._watch = Watch(url)
        except ShardError as error:
            if not _is_away(error):
                raise
            self._problem = error.message
            output.warning(f"{error.message} It is asked again whenever somebody wants its figures.")

    def look(self) -> list[dict[str, Any]]:
        """Return what ``Watch.look`` does."""
        if self._watch is None:
            self._find()
        if self._watch is None:
            return [{"address": _place(self._url), "error": self._problem}]
        return self._watch.look()

    def _find(self) -> None:
        if self._finding is None:
            self._finding = _Finding(lambda: Watch(self._url))
        try:
            self._watch = self._finding.result()
        except ShardError as error:
            self._problem = error.message
            self._finding = None

    def __enter__(self) -> AwaitedWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.close()
        elif self._finding is not None:
            self._finding.drop()


def _connect(url: str) -> Shards:
    """Find the shards, also of a cluster of which some are away. Raises ShardError."""
    try:
        return shards.connect(url, ANSWER_SECONDS)
    except ShardError as error:
        if not _is_away(error):
            raise
        found = shards.connect(url, ANSWER_SECONDS, needs_host=False)
        if found.kind == "cluster":
            return found
        found.close()
        raise


def _is_away(error: ShardError) -> bool:
    cause = error.__cause__
    is_lost = isinstance(cause, (redis.ConnectionError, redis.TimeoutError))
    return is_lost and not isinstance(cause, redis.exceptions.AuthenticationError)


def _place(url: str) -> str:
    """Return where a URL points to, without a login."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path
