"""Small C libraries that stand before the C library's functions in a server (LD_PRELOAD)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.choice import must_not_miss


def build(folder: Path, name: str, source: str) -> Path:
    """Compile the source into ``name``.so in the folder; skip the test where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        sentence = f"no C compiler for {name}.c"
        if must_not_miss(os.environ):
            pytest.fail(sentence)
        pytest.skip(sentence)
    (folder / f"{name}.c").write_text(source)
    library = folder / f"{name}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), f"{folder}/{name}.c"], check=True)
    return library
