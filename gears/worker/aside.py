"""What is done beside, by threads that nobody waits for when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Made = TypeVar("Made")


def aside(act: Callable[[], Made]) -> Future[Made]:
    """Begin something, and return where its result will be. Threads of a pool would be joined at the end."""
    future: Future[Made] = Future()

    def fulfil() -> None:
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=fulfil, daemon=True).start()
    return future
