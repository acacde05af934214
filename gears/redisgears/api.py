"""RedisGears' own functions, and bytes out of what they return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redisgears

from gears.commands import Commands

execute = redisgears.executeCommand
atomic = redisgears.atomicCtx


def log(text: str, level: str = "notice") -> None:
    """Write a line into the server's log."""
    redisgears.log(f"gearsync: {text}", level=level)


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
