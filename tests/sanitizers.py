"""The module built with sanitizers, in servers that know nothing of them (``make sanitize``).

With GEARSYNC_TEST_SANITIZED=1 the tests of the module load ``build/sanitized/gearsync.so`` (made by
``setup.py build_ext --sanitize``) in place of the one that users have. An unmodified server then needs the
sanitizers' libraries before all others. What they find stands in the server's log; a server whose log has
some fails its test when it stops.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import gears.module

SANITIZED = Path(__file__).parents[1] / "build" / "sanitized" / "gearsync.so"
LIBRARIES = ("libasan.so", "libubsan.so")

#: What the server starts (workers, compilers of pip) is no part of the test.
SOURCE = """
#include <stdlib.h>

__attribute__((constructor)) static void start(void) { unsetenv("LD_PRELOAD"); }
"""

#: The first line of a report, and a line of the server's own, at which it ends.
REPORT = re.compile(r"ERROR: \w+Sanitizer|: runtime error: ")
SERVER_LINE = re.compile(r"\d+:[A-Z] ")


def are_asked_for() -> bool:
    """Whether the tests of this run are to load the module with sanitizers."""
    return os.environ.get("GEARSYNC_TEST_SANITIZED") == "1"


def module_path() -> str:
    """Return the path of the module under test. Raises FileNotFoundError when it was not built."""
    if not are_asked_for():
        return gears.module.path()
    if not SANITIZED.exists():
        raise FileNotFoundError(f"{SANITIZED} is missing; build it by python setup.py build_ext --sanitize")
    return str(SANITIZED)


def libraries() -> list[str]:
    """Return the paths of the sanitizers' libraries; empty where the compiler has none."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return []
    found = []
    for name in LIBRARIES:
        command = [compiler, f"-print-file-name={name}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not os.path.isabs(said):
            return []
        found.append(said)
    return found


@functools.cache
def _preloaded() -> str:
    folder = Path(tempfile.mkdtemp(prefix="gearsync-sanitizers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = folder / "alone.c"
    source.write_text(SOURCE)
    library = folder / "alone.so"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return " ".join([*libraries(), str(library)])


def environment(module: str | None) -> dict[str, str] | None:
    """Return the environment of a server with that module; None: that of the tests."""
    if module is None or Path(module) != SANITIZED:
        return None
    before = os.environ.get("LD_PRELOAD", "")
    return {
        **os.environ,
        "LD_PRELOAD": f"{_preloaded()} {before}".strip(),
        "ASAN_OPTIONS": "detect_leaks=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def reports(log: str) -> list[str]:
    """Return what sanitizers have written into a server's log."""
    found: list[list[str]] = []
    inside = False
    for line in log.splitlines():
        if REPORT.search(line):
            found.append([])
            inside = True
        elif SERVER_LINE.match(line):
            inside = False
        if inside:
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]
