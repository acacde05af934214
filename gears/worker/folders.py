"""The folders in which requirements are installed: used by whom, and removed when they are many."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from pathlib import Path

KEPT = 5
"""As many as the versions to which `gearsync rollback` leads."""
ABANDONED_SECONDS = 3600.0
"""After so long what pip was installing into belongs to a worker that was killed."""
UNFINISHED = "installing-"

log = logging.getLogger("gearsync.worker")


def hold(folder: Path) -> int | None:
    """Keep a folder from being removed until this process ends; None: it is not there, or not any more.

    Returns a descriptor that is to stay open. Raises OSError.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # The last one used is the last to be removed.
        os.utime(folder)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor
    except FileNotFoundError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    # Somebody removed it before it was held.
    os.close(descriptor)
    return None


def remove_unused(parent: Path) -> None:
    """Remove all but the last folders of a deployment; those that a worker holds stay in any case."""
    try:
        found = [(each.stat().st_mtime, each) for each in parent.iterdir()]
    except OSError as error:
        log.info("old requirements in %s stay: %s", parent, error)
        return
    limit = time.time() - ABANDONED_SECONDS
    unfinished = [each for at, each in found if each.name.startswith(UNFINISHED) and at < limit]
    finished = [each for _, each in sorted(found, reverse=True) if not each.name.startswith(UNFINISHED)]
    for each in unfinished + finished[KEPT:]:
        try:
            _remove(each)
        except OSError as error:
            log.info("old requirements in %s stay: %s", each, error)


def _remove(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under another name at once, so that half of one is never found.
        doomed = folder.with_name(f"{UNFINISHED}{folder.name}-{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
    finally:
        os.close(descriptor)
