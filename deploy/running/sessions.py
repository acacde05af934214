"""The processes of a session: a server and all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator


def members(session: int) -> list[int]:
    """Return the ids of a session's processes; those that have ended and are not reaped yet don't count."""
    return [pid for pid in _living() if _session_of(pid) == session]


def kill(session: int) -> int:
    """Kill a session's processes; return how many there were."""
    found = members(session)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has ended by itself in this moment.
            continue
    return len(found)


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        # It has ended, or is none of our business.
        return -1


def _living() -> Iterator[int]:
    if not os.path.exists("/proc/self/stat"):
        yield from _living_by_ps()
        return
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name before the state is in parentheses, and may hold any character.
                state = file.read().rpartition(b") ")[2][:1]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            yield int(name)


def _living_by_ps() -> Iterator[int]:
    done = subprocess.run(
        ["ps", "-A", "-o", "pid=,stat="],  # noqa: S607 (from the user's own PATH)
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        pid, state = line.split()
        if not state.startswith("Z"):
            yield int(pid)
