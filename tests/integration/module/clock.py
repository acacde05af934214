"""A server whose clock can be set forward, so that a minute takes no minute."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.module.preloading import build
from tests.servers import RedisServer

#: Stands before the C library's function of that name, in the server alone. The offset (ms) is shared memory.
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_ms;

__attribute__((constructor)) static void start(void) {
    int fd = open(getenv("GEARSYNC_TEST_CLOCK"), O_RDONLY);
    void *memory = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || memory == MAP_FAILED) _exit(99);
    offset_ms = memory;
    close(fd);
    unsetenv("LD_PRELOAD");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_MONOTONIC && offset_ms != NULL) now->tv_sec += *offset_ms / 1000;
    return result;
}

/* Valkey 8.1 and newer load modules such that the C library's own function would come first in them. */
void *dlopen(const char *name, int flags) {
    void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return next(name, flags & ~RTLD_DEEPBIND);
}
"""


class Clock:
    """The monotonic clock of servers."""

    def __init__(self, folder: Path) -> None:
        self._library = build(folder, "clock", SOURCE)
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self._seconds = 0

    @contextmanager
    def runs(self, server: RedisServer) -> Iterator[RedisServer]:
        """Start a server that goes by this clock, and stop it at the end."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self._library))
            patch.setenv("GEARSYNC_TEST_CLOCK", str(self._file))
            server.start()
        try:
            yield server
        finally:
            server.stop()

    def advance(self, seconds: int) -> None:
        """Set the clock forward."""
        self._seconds += seconds
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as memory:
            memory[:8] = struct.pack("q", self._seconds * 1000)
