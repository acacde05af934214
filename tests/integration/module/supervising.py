"""A script in Python's place, which the module starts as its worker.

It writes down how it was called, and then does as the file ``mode`` beside it says.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.integration.module.driving import deploy, deployment_status, wait_for

#: Each file is whole before ``greeting`` is there.
SOURCE = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/arguments"
tr '\\0' '\\n' </proc/$$/environ >"$here/environment"
read -r greeting
printf '%s' "$greeting" >"$here/greeting.new" && mv "$here/greeting.new" "$here/greeting"
mode=$(cat "$here/mode")
case $mode in
    exit*) exit "${mode#exit}" ;;
    deaf)
        trap 'echo >"$here/asked"' TERM
        sleep 1000 </dev/null &
        while :; do wait; done ;;
esac
exec cat >/dev/null
"""


class Script:
    """The script, and what it wrote down.

    Modes: ``exit<code>``; ``stay`` until the pipe or SIGTERM ends it; ``deaf`` to both, with a child: SIGTERM
    makes the file ``asked``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "python"
        self.path.write_text(SOURCE)
        self.path.chmod(0o755)
        self.mode("stay")

    def mode(self, mode: str) -> None:
        """Say what the script does from its next start on."""
        (self.folder / "mode").write_text(mode)

    def said(self, name: str) -> str:
        """Return what the script wrote down under a name, once it has."""
        wait_for((self.folder / "greeting").exists, "the greeting")
        return (self.folder / name).read_text()

    def greeting(self) -> dict[str, Any]:
        """Return the line that the script read from its standard input."""
        found: dict[str, Any] = json.loads(self.said("greeting"))
        return found


def worker(client: redis.Redis) -> dict[str, Any]:
    """Return what the status says of the worker."""
    found: dict[str, Any] = deployment_status(client)["worker"]
    return found


def started(client: redis.Redis, **settings: Any) -> int:
    """Deploy with a worker of the module's; return its process id."""
    deploy(client, worker="SUPERVISED", **settings)
    return int(wait_for(lambda: worker(client)["pid"], "the worker's start"))


def descriptors(pid: int) -> dict[int, str]:
    """Return what the script in its mode ``stay`` has open, by number, once the shell has made way to cat."""
    wait_for(lambda: psutil.Process(pid).name() == "cat", "cat in the shell's place")
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # What it had for itself while it started it may close between the two looks.
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = os.readlink(link)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended and was reaped: a zombie is not gone."""
    return not psutil.pid_exists(pid)


def has_ended(pid: int) -> bool:
    """Whether a process whose parent is gone has ended; not every system's first process reaps."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
