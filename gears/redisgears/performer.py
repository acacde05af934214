"""Does in Redis what SQL has committed: clients' writes, and those of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gears.redisgears import effects
from gears.redisgears.api import log
from gears.redisgears.capture import Capture
from gears.redisgears.write import FAILED, Write, run
from gears.redisgears.written import Written


class Performer:
    """Redis is locked wherever this is used."""

    def __init__(self, written: Written, capture: Capture) -> None:
        self._written = written
        self._capture = capture

    def outcome(self, write: Write, reason: str) -> Any:
        """Do what SQL has committed, but for what is refused with a reason; return the client's reply."""
        if reason:
            return FAILED + reason
        if write.told:
            # Committed all the same: SQL goes back to what Redis has.
            self.capture_again(write.covered)
            return None
        # A key that something else has changed meanwhile (its time was over) is captured: SQL follows.
        if write.captured != [self._written.captured(key) for key in write.covered]:
            return self.run(write)
        with self._written.quietly():
            reply = self.run(write)
        self._look(write.arguments, write.covered, reply)
        return reply

    def run(self, write: Write) -> Any:
        """Run a client's command past the hooks."""
        self._written.passing[0] = True
        try:
            return write.run()
        finally:
            self._written.passing[0] = False

    def repeat(self, words: Sequence[bytes]) -> None:
        """Run a command of a record, captured: what its keys met since may be on its way to SQL."""
        self._written.passing[0] = True
        try:
            reply = run(words)
        finally:
            self._written.passing[0] = False
        self._look([words[0].decode()], effects.keys_of(words), reply)

    def _look(self, words: Sequence[Any], keys: Sequence[bytes], reply: Any) -> None:
        if type(reply) is str and reply.startswith("-"):
            log(f"write-through: a {words[0]} is in SQL, and Redis refuses it: {reply}", "warning")
            self.capture_again(keys)

    def capture_again(self, keys: Sequence[bytes]) -> None:
        """Have SQL follow what Redis has of some keys."""
        for key in keys:
            self._capture.again(key)
