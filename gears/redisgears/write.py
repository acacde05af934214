"""A client's write that waits for its SQL commit, and how it runs in Redis at last."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

import redisgears

from gears.redisgears.api import as_bytes, call_next, execute

FAILED = "-THROUGH "
WAITING, SENT, OVER = "waiting", "sent", "over"


class Write:
    """``words`` is the client's command. ``keys`` are all that it writes, ``covered`` those with rows.

    ``stage``: WAITING; SENT: it may be committed at any time; OVER. ``told``: its client has had an error.
    """

    def __init__(
        self,
        arguments: list[Any],
        keys: list[bytes],
        covered: list[bytes],
        timeout_ms: int,
        on_time: Callable[[Any], None],
    ) -> None:
        self.arguments = arguments
        self.keys = keys
        self.covered = covered
        self.timeout_ms = timeout_ms
        self.session = redisgears.getGearsSession()
        self.future: Any = None
        self.stage = WAITING
        self.told = False
        self.is_loading = self.was_loaded = False
        self.captured: list[Any] = []
        """What was captured of its keys when its effect was told."""
        self.id = ""
        self.term: Any = None
        """In which term its client has asked for it."""
        self._on_time = on_time

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self.told or self.stage == OVER

    def expire(self) -> None:
        """Its client has waited long enough."""
        self._on_time(self)

    def run(self) -> Any:
        """Run the client's command past the hooks; return the reply for it. Redis is locked."""
        redisgears.setGearsSession(self.session)
        try:
            return reply_of(self.arguments, call_next(self.arguments[1:]))
        except redisgears.GearsError as error:
            if "ailed executing command" not in str(error):
                return _error(self.arguments, error)
        finally:
            redisgears.setGearsSession(None)
        # A newer version has taken the hook away, and passes what this one runs.
        return run([as_bytes(each) for each in self.arguments])


def pass_on(arguments: Sequence[Any]) -> Any:
    """Run the command whose hook this is; return the reply for its client."""
    try:
        return reply_of(arguments, call_next(arguments[1:]))
    except redisgears.GearsError as error:
        return _error(arguments, error)


def _error(words: Sequence[Any], error: Exception) -> str:
    """Return the server's own error; that of a wrong number of arguments comes as an errno."""
    if str(error) == os.strerror(errno.EINVAL):
        return f"-ERR wrong number of arguments for '{as_bytes(words[0]).decode().lower()}' command"
    return "-" + " ".join(str(error).split())


def run(words: Sequence[Any]) -> Any:
    """Run a command that the hooks let pass; return the reply for a client."""
    try:
        return reply_of(words, execute(as_bytes(words[0]).decode(), *words[1:]))
    except redisgears.GearsError as error:
        return _error(words, error)


def reply_of(words: Sequence[Any], reply: Any) -> Any:
    """Return what RedisGears is to send for a reply: a number, a string, or OK."""
    if type(reply) is int:
        return reply
    text = as_bytes(reply)
    return "+OK" if text == b"OK" else text


def words_of(arguments: Sequence[Any]) -> list[bytes]:
    """Return a command as bytes."""
    return [as_bytes(each) for each in arguments]
