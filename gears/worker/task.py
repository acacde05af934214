"""What threads of a worker have in common that go on as long as it does."""

from __future__ import annotations

import logging
import threading
import traceback
from typing import Any

from gears.worker.logs import FAULT, event
from gears.worker.shared import Shared

log = logging.getLogger("gearsync.worker")


class Task:
    """Works in a thread of its own until it is asked to end, or all of the worker is."""

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared = shared
        self._halt = threading.Event()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def halt(self) -> None:
        """Ask it to end after what it has in hand; ``thread.join`` waits for it."""
        self._halt.set()

    @property
    def over(self) -> bool:
        """Whether it is to end."""
        return self._halt.is_set() or self._shared.stop.is_set()

    def _run(self) -> None:
        """Work until it is over. An error must not end the thread: its work would stand still, unnoticed."""
        raise NotImplementedError


def fault(error: Exception, who: str, **fields: Any) -> str:
    """Log where a fault of ours came from; return what it is in a few words."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s", who, trace, extra=event(FAULT, **fields, error=type(error).__name__))
    return f"unexpected {type(error).__name__}: {error}"
