"""The native module that runs inside Redis; this package only knows where its built file is."""

from __future__ import annotations

import os
import re

_MARK = re.compile(rb"gearsync module ([0-9][0-9A-Za-z.+-]*) ")


def path() -> str:
    """Return the absolute path of the built module.

    Raises FileNotFoundError when it was not built (``make install`` or ``pip install .`` builds it).
    """
    built = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gearsync.so")
    if not os.path.exists(built):
        raise FileNotFoundError(
            f"the gearsync module is not built: {built} is missing. "
            "Run `make install`, or `pip install .` with a C compiler."
        )
    return built


def version() -> str:
    """Return the version of the built module, which it holds itself.

    Raises FileNotFoundError when it was not built, ValueError when the file is not of gearsync.
    """
    with open(path(), "rb") as file:
        found = _MARK.search(file.read())
    if found is None:
        raise ValueError(f"{path()} is no module of gearsync, or one older than 0.1.")
    return found.group(1).decode()
