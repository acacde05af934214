"""What a client is told whose row has come: the reply that its command has now."""

from __future__ import annotations

from typing import Any

from gears.redisgears.api import as_bytes, execute, override_reply

LOADED = (
    "-TRYAGAIN the row is loaded now, and has not all the fields that were asked for, which RedisGears can't "
    "say: read it again"
)
UNREADABLE = (
    "-TRYAGAIN the row is loaded now; RedisGears can't run this command, which is no UTF-8: read it again"
)


def reply_of(command: list[str] | None) -> Any:
    """Return what RedisGears is to send; None: no row, so that the client's own reply is right.

    RedisGears has no form for nothing within a list. ``command`` is None where RedisGears can't show it.
    """
    if command is None:
        return UNREADABLE
    try:
        reply = execute(*command)
    except Exception as error:
        return "-" + " ".join(str(error).split())
    if isinstance(reply, list):
        return _list(reply)
    if command[0].lower() == "type":
        return "+" + str(reply)
    return reply if reply is None or type(reply) is int else as_bytes(reply)


def _list(reply: list[Any]) -> Any:
    missing = reply.count(None)
    if missing:
        # All of them missing is what the client's own reply says.
        return None if missing == len(reply) else LOADED
    return [each if type(each) is int else as_bytes(each) for each in reply]


def send(reply: Any) -> None:
    """Have RedisGears send this in place of the miss, unless it sends another already."""
    try:
        override_reply(reply)
    except Exception as error:
        # Of an EXISTS with several keys, each that is missed answers for all.
        if "only override reply once" not in str(error):
            raise
