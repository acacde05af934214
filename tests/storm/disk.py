"""A small disk of its own for a server, which a ballast fills."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_KEPT = 4096


class Disk:
    """A tmpfs of ``megabytes`` on a folder; ``small`` is False where this machine lets nobody mount one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        options = f"size={megabytes}m,mode=755"
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False) if os.geteuid() == 0 else None
        self.small = done is not None and done.returncode == 0

    @contextlib.contextmanager
    def full(self, left: int = 0) -> Iterator[None]:
        """Have no more than ``left`` bytes free."""
        try:
            self._fill(left)
            yield
        finally:
            self._ballast.unlink(missing_ok=True)

    def _fill(self, left: int) -> None:
        room = os.statvfs(self.folder)
        size = room.f_bavail * room.f_frsize - left
        with self._ballast.open("wb") as file, contextlib.suppress(OSError):
            # Others write meanwhile: then there is less than was asked for.
            while size >= _KEPT:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(size, 1 << 20))
                size -= 1 << 20

    def unmount(self) -> None:
        """Take it away, with all that is on it, also while a process is still in it."""
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self.small = False
