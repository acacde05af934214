"""One question to all shards, which marks of moves wait, for all lanes of a target that wait for keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import redis

from gears.worker.moving.moves import Waiting

ASK_SHARE = 0.02
"""Asking reads what waits on all shards: it takes at most this share of the time, or many lanes that wait for
each other would take what the workers need to go on. Who doubts has it asked at once."""


class Answer(NamedTuple):
    """What the shards said from ``begun`` to ``ended`` (s, monotonic): what waits, or why one did not."""

    begun: float
    ended: float
    waiting: Waiting | None
    error: str = ""


class Asker:
    """Asks in a thread of its own, so that lanes go on meanwhile; ``ask`` may raise redis.RedisError."""

    def __init__(self, ask: Callable[[], Waiting]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._thread: threading.Thread | None = None

    def since(self, moment: float, doubts: bool) -> Answer | None:
        """Return what was asked after a moment; None: look again later. ``doubts``: it is to be soon."""
        with self._lock:
            answer = self._answer
            if answer is not None and answer.begun >= moment:
                return answer
            rests = 0.0 if answer is None or doubts else (answer.ended - answer.begun) / ASK_SHARE
            is_due = answer is None or time.monotonic() >= answer.ended + rests
            if is_due and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="asking all shards", daemon=True)
                self._thread.start()
        return None

    def _run(self) -> None:
        begun = time.monotonic()
        waiting, error = None, ""
        try:
            waiting = self._ask()
        except redis.RedisError as reason:
            error = str(reason)
        with self._lock:
            self._answer = Answer(begun, time.monotonic(), waiting, error)
