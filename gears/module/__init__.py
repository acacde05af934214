"""The native module that runs inside Redis; this package only knows where its built file is."""

from __future__ import annotations

import os


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
