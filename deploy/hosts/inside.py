"""Runs inside RedisGears (Python 3.7): packages.py uploads this text, and a call of one of the functions.

pip works in a process of its own, so that Redis answers its clients meanwhile.
"""

from __future__ import annotations

import base64
import ctypes.util
import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile

# The first is what pip takes for its wheels and its words, the others are the command.
RUN = '"$@" >"$0/said" 2>&1; echo $? >"$0/code.new"; mv "$0/code.new" "$0/code"'


def look(modules: list[str]) -> dict[str, str]:
    """Tell of each module whether it is ``absent``, ``brought`` by a requirement, or the Python's ``own``."""
    importlib.invalidate_caches()
    return {name: _origin(name) for name in modules}


def _origin(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or (name == "psycopg" and not _has_libpq()):
        return "absent"
    # A virtual environment that RedisGears makes has nothing else, and is made anew at each start.
    is_made = os.path.basename(sys.prefix).startswith(".venv-")
    return "brought" if is_made and str(spec.origin).startswith(sys.prefix + os.sep) else "own"


def _has_libpq() -> bool:
    carried = any(importlib.util.find_spec(name) for name in ("psycopg_binary", "psycopg_c"))
    return carried or ctypes.util.find_library("pq") is not None


def tags() -> list[str]:
    """Return what wheels this Python takes, as pip does."""
    from pip._vendor.packaging.tags import sys_tags

    return [str(each) for each in sys_tags()]


def begin(requirement: str) -> list[str]:
    """Start pip for the wheels of a requirement; return the folder where it works, and its process group."""
    folder = tempfile.mkdtemp(prefix="gearsync-wheels-")
    python = os.path.join(sys.prefix, "bin", "python3")
    command = [python, "-m", "pip", "--disable-pip-version-check", "wheel"]
    command += ["--wheel-dir", os.path.join(folder, "wheels"), requirement]
    started = subprocess.Popen(
        ["/bin/sh", "-c", RUN, folder, *command],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return [folder, str(started.pid)]


def progress(folder: str) -> dict[str, object]:
    """Tell how far pip is: its exit code (None: it works), its words, and the wheels with their sizes."""
    code = _read(folder, "code")
    wheels = glob.glob(os.path.join(glob.escape(folder), "wheels", "*")) if code else []
    return {
        "code": int(code) if code else None,
        "said": _read(folder, "said").splitlines()[-50:],
        "wheels": {os.path.basename(path): os.path.getsize(path) for path in sorted(wheels)},
    }


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def part(folder: str, wheel: str, offset: int, size: int) -> str:
    """Return a part of a wheel, as base64."""
    with open(os.path.join(folder, "wheels", wheel), "rb") as file:
        file.seek(offset)
        return base64.b64encode(file.read(size)).decode()


def end(folder: str, group: str) -> bool:
    """End pip if it still works, and delete the folder."""
    if not _read(folder, "code"):
        try:
            os.killpg(int(group), signal.SIGKILL)
        except ProcessLookupError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
    return True
