"""Messages between Redis' process and the one that writes to a database, over a pipe.

Both run the same Python, so that its own fastest encoding serves: Redis' process holds its interpreter, which
captures as well, as short as can be.
"""

from __future__ import annotations

import marshal
import struct
from typing import IO, Any

_LENGTH = struct.Struct(">I")


def send(pipe: IO[bytes], *message: Any) -> None:
    """Write one message of numbers, texts, bytes, None, lists and dicts. Raises OSError."""
    body = marshal.dumps(message)
    pipe.write(_LENGTH.pack(len(body)))
    pipe.write(body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read one message, a tuple. Raises EOFError when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the pipe has ended")
    (length,) = _LENGTH.unpack(head)
    body = pipe.read(length)
    if len(body) < length:
        raise EOFError("the pipe has ended within a message")
    return marshal.loads(body)
