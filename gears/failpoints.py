"""Places where a test lets the worker die, as a kill -9 at that very moment would.

``GEARSYNC_FAILPOINT`` names the place, ``GEARSYNC_FAILPOINT_ONCE`` a file that remembers that it was reached.
"""

from __future__ import annotations

import os
import signal


def reach(name: str) -> None:
    """Die here if this is the place named and it was not reached before."""
    if os.environ.get("GEARSYNC_FAILPOINT") != name:
        return
    marker = os.environ.get("GEARSYNC_FAILPOINT_ONCE", "")
    if not marker or os.path.exists(marker):
        return
    with open(marker, "w", encoding="ascii"):
        os.kill(os.getpid(), signal.SIGKILL)
