"""Modules of the tests' own, built by the system's compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def build(source: str, folder: Path) -> str:
    """Return the path of the module that a C file beside this one makes."""
    path = str(folder / source.replace(".c", ".so"))
    file = str(Path(__file__).with_name(source))
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-std=c11", "-shared", "-fPIC", "-o", path, file, "-ldl"], check=True)
    return path
