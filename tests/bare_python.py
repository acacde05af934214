"""Copies of RedisGears' Python for tests that install packages into one: the home's own stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.redisgears import ABSENT, home
from tests.servers import ServerError

DRIVERS = ("sqlalchemy", "greenlet", "psycopg", "psycopg-binary", "psycopg-c", "pymysql")

#: Of a server whose pip reaches no index.
NOWHERE = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


def copy_python(folder: Path) -> Path:
    """Copy the home's Python; return where it is. Raises ServerError when there is no home."""
    found = home()
    if found is None:
        raise ServerError(ABSENT)
    source = min(found.glob("python3_*")).resolve()
    return Path(shutil.copytree(source, folder / "python", symlinks=True, copy_function=_link))


def bare_python(folder: Path) -> Path:
    """Copy the home's Python without the database drivers; return where it is."""
    python = copy_python(folder)
    command = [str(python / "bin" / "python3"), "-m", "pip", "uninstall", "--quiet", "--yes", *DRIVERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"the drivers could not be taken from a copy of the Python: {done.stderr}")
    return python


def has_virtualenv(python: Path) -> bool:
    """Whether RedisGears can make virtual environments of it."""
    command = [str(python / "bin" / "python3"), "-m", "virtualenv", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _link(source: str, target: str) -> str:
    # pip and Python replace files, and write into none.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
