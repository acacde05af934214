"""RedisGears' own functions, and bytes out of what they return."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ContextManager

import redisgears

from gears.applying.commands import Commands

execute = redisgears.executeCommand
RETURN_SECONDS = 0.0002
"""How long to leave a step to itself that has made a future."""

future = redisgears.gearsFutureCtx
override_reply = redisgears.overrideReply


def log(text: str, level: str = "notice") -> None:
    """Write a line into the server's log."""
    redisgears.log(f"gearsync: {text}", level=level)


def atomic() -> ContextManager[Any]:
    """Lock Redis, unless this thread has locked it already; what is done then is replicated as one."""
    context: ContextManager[Any] = nullcontext() if redisgears.isInAtomicBlock() else redisgears.atomicCtx()
    return context


def start_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread that may use Redis.

    One that RedisGears does not know would wait for Redis' lock with the interpreter in its hands, for which
    Redis may wait.
    """

    def run() -> None:
        redisgears.registerGearsThread()
        work()

    threading.Thread(target=run, daemon=True).start()


def command_of_client() -> list[str] | None:
    """Return the command whose client waits for this execution; None: nobody does.

    Raises SystemError when it is not all UTF-8: RedisGears can't show it.
    """
    try:
        # RedisGears lets go of what stands in MULTI before it lets go of Redis' lock.
        with atomic():
            found: list[str] = redisgears.getCommand()
            return found
    except redisgears.GearsError as error:
        if "command ctx" in str(error):
            return None
        raise


def call_next(words: Sequence[Any]) -> Any:
    """Run the command whose hook this is, in the session that is set.

    RedisGears gives up a reference to its arguments that it was only lent: without another one they would be
    freed twice.
    """
    arguments = tuple(words)
    held = [arguments]
    before = sys.getrefcount(arguments)
    try:
        return redisgears.callNext(*arguments)
    finally:
        if sys.getrefcount(arguments) < before:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(arguments))
        held.clear()


def resume(waiting: Any, value: Any) -> None:
    """Let an execution go on with ``value`` in place of its future."""
    while True:
        try:
            waiting.continueRun(value)
            return
        except redisgears.GearsError as error:
            # The step that has made it is about to return it.
            if "returned from the callback" not in str(error):
                raise
        time.sleep(RETURN_SECONDS)


def as_bytes(value: Any) -> bytes:
    """Return a text of RedisGears as the bytes it is: str where they are UTF-8, else a bytearray."""
    return value.encode() if type(value) is str else bytes(value)


def plain(reply: Any) -> Any:
    """Return a reply with bytes for each text in it."""
    if type(reply) is str:
        return reply.encode()
    if type(reply) is list:
        return [plain(each) for each in reply]
    return bytes(reply) if isinstance(reply, bytearray) else reply


class GearsCommands(Commands):
    """Commands of the server that this code runs in. Errors are RedisGears' own exceptions."""

    def call(self, *words: Any) -> Any:
        return plain(execute(*words))

    def transaction(self, commands: Sequence[Sequence[Any]]) -> None:
        with atomic():
            for words in commands:
                execute(*words)
