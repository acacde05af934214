"""Wait for a key of the terminal while something is shown there."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def single_keys() -> Iterator[bool]:
    """Have keys come one by one and unseen, until the end; whether standard input is a terminal at all."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def wait_for(key: str, seconds: float, has_keys: bool) -> bool:
    """Wait so long, or until the key is pressed; whether it was. Without keys, only wait."""
    if not has_keys:
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([sys.stdin], [], [], left)[0]:
            return False
        pressed = os.read(sys.stdin.fileno(), 64)
        # Nothing at all: the terminal is gone.
        if not pressed or key.encode() in pressed.lower():
            return True
