"""What the page shows, renewed by one thread that looks at all shards again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploy import status
from deploy.output import CommandError
from deploy.reaching.shards import Shards
from deploy.watching.figures import Sampler, ShardFigures
from deploy.watching.look import Watch


@dataclass(frozen=True)
class Snapshot:
    """What one look has found. ``at``: when, in seconds since 1970; 0 before the first look.

    ``answers`` are the status documents of the shards that answered; ``problem`` says why no shard is known.
    """

    at: float = 0.0
    shards: tuple[ShardFigures, ...] = ()
    answers: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    problem: str = ""

    @property
    def state(self) -> str:
        """``starting``, ``live``, ``partly`` (some shards are away) or ``away`` (all of them)."""
        if not self.at:
            return "starting"
        up = sum(each.up for each in self.shards)
        if not up:
            return "away"
        return "live" if up == len(self.shards) else "partly"


class Board:
    """The latest snapshot. A context: the thread looks while it is open, and waits for a Redis that is away.

    ``interval`` is the time between two looks, in seconds. ``failed`` is called, by that thread, when it ends
    by a fault of ours, which leaving the context raises.
    """

    def __init__(self, url: str, interval: float, failed: Callable[[], None]) -> None:
        self.interval = interval
        self._url = url
        self._failed = failed
        self._snapshot = Snapshot()
        self._watch: Watch | None = None
        self._sampler = Sampler()
        self._error: Exception | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    def __enter__(self) -> Board:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._watch is not None:
            self._watch.close()
        if self._error is not None:
            raise self._error

    @property
    def snapshot(self) -> Snapshot:
        """What the last look has found."""
        return self._snapshot

    def reached(self) -> tuple[Shards, tuple[dict[str, Any], ...]]:
        """Return the shards and the status documents of those that answered. Raises CommandError."""
        snapshot, watch = self._snapshot, self._watch
        if watch is None or not snapshot.answers:
            raise CommandError(snapshot.problem or "Redis is away.")
        return watch.shards, snapshot.answers

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                self._snapshot = self._look()
                self._is_over.wait(self.interval)
        except Exception as error:
            self._error = error
            self._failed()

    def _look(self) -> Snapshot:
        try:
            if self._watch is None:
                self._watch = Watch(self._url)
        except CommandError as error:
            return Snapshot(time.time(), problem=sentence(error))
        documents = self._watch.look()
        at = time.time()
        return Snapshot(
            at, self._sampler.feed(documents, at), tuple(each for each in documents if "error" not in each)
        )


def sentence(error: CommandError) -> str:
    """Return an error in one line, with what to do about it."""
    return f"{error.message} Try: {error.hint}" if error.hint else error.message


def document(snapshot: Snapshot, since: float) -> dict[str, Any]:
    """Return a snapshot as JSON's types, with those samples that are later than ``since``.

    A sample is a list: its time, rate in, rate out, backlog, p99 of the lag.
    """
    return {
        "at": snapshot.at,
        "state": snapshot.state,
        "problem": snapshot.problem,
        "attention": status.attention(list(snapshot.answers)),
        "shards": [_packed(each.to_document(history=True), since) for each in snapshot.shards],
    }


def _packed(value: Any, since: float) -> Any:
    if isinstance(value, dict):
        return {
            key: [list(sample.values()) for sample in each if sample["at"] > since]
            if key == "history"
            else _packed(each, since)
            for key, each in value.items()
        }
    return [_packed(each, since) for each in value] if isinstance(value, (list, tuple)) else value
