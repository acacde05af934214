"""Messages between Redis' process and the one that writes to a database, over a pipe.

Both run the same Python, so that its own fastest encoding serves: Redis' process holds its interpreter, which
captures as well, as short as can be.
"""

from __future__ import annotations

import marshal
import os
import struct
from typing import IO, Any, Iterator

_LENGTH = struct.Struct(">I")


def send(pipe: IO[bytes], *message: Any) -> None:
    """Write one message of numbers, texts, bytes, None, lists and dicts. Raises OSError."""
    body = marshal.dumps(message)
    left = memoryview(_LENGTH.pack(len(body)) + body)
    while left:
        left = left[pipe.write(left) :]
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read one message, a tuple. Raises EOFError when the other side is gone."""
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    return marshal.loads(_read(pipe, length))  # noqa: S302 (from a process of our own, by a pipe)


def each(pipe: IO[bytes]) -> Iterator[Any]:
    """Read message after message, until the other side is gone."""
    while True:
        try:
            message = receive(pipe)
        except EOFError:
            return
        yield message


def answers() -> IO[bytes]:
    """Take standard output for messages: what a transform prints goes where errors go, not in between."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _read(pipe: IO[bytes], length: int) -> bytes:
    """Read so many bytes, of which a pipe without a buffer gives some at a time."""
    found = pipe.read(length)
    while len(found) < length:
        more = pipe.read(length - len(found))
        if not more:
            raise EOFError("the pipe has ended")
        found += more
    return found
