"""The time of day of Redis and its workers, which steps: as on a machine whose clock is set.

The clock that only grows is left alone, as the kernel does.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from tests.integration.module.preloading import build

SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_ms;

__attribute__((constructor)) static void start(void) {
    int fd = open(getenv("STORM_CLOCK"), O_RDONLY);
    void *memory = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0 && memory != MAP_FAILED) offset_ms = memory;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (offset_ms != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset_ms / 1000;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (where != NULL) *where = found.tv_sec;
    return found.tv_sec;
}
"""


class Clock:
    """Seconds by which the time of day is ahead, for all that has ``variables`` in its environment."""

    def __init__(self, folder: Path) -> None:
        self._library = build(folder, "time_of_day", SOURCE)
        self._file = folder / "time_of_day"
        self._file.write_bytes(bytes(8))
        self._latest = 0

    @property
    def variables(self) -> dict[str, str]:
        """The environment of who is to go by this clock."""
        return {"LD_PRELOAD": str(self._library), "STORM_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Set it so many seconds ahead of the true time; negative: behind."""
        self._latest = max(self._latest, seconds)
        descriptor = os.open(self._file, os.O_RDWR)
        with mmap.mmap(descriptor, 8) as memory:
            memory[:8] = struct.pack("q", seconds * 1000)
        os.close(descriptor)

    def settle(self) -> None:
        """Set it later than it ever was, so that all that was to expire has expired."""
        self.set(self._latest + 60)
