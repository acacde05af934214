"""Places where a test lets a process die, as a kill -9 at that very moment would.

``GEARSYNC_FAILPOINT`` names the place, ``GEARSYNC_FAILPOINT_ONCE`` a file that remembers that it was reached,
and ``GEARSYNC_FAILPOINT_VICTIM`` a file with the pid of who dies there; without it, it is this process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Read once: a client waits while some of the places are passed.
_NAMED = os.environ.get("GEARSYNC_FAILPOINT")


def reach(name: str) -> None:
    """Kill here if this is the place named and it was not reached before."""
    if name != _NAMED:
        return
    marker = os.environ.get("GEARSYNC_FAILPOINT_ONCE", "")
    if not marker or os.path.exists(marker):
        return
    victim = os.environ.get("GEARSYNC_FAILPOINT_VICTIM", "")
    with open(marker, "w", encoding="ascii"):
        os.kill(int(Path(victim).read_text(encoding="ascii")) if victim else os.getpid(), signal.SIGKILL)
