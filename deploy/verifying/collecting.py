"""The garbage collector during a comparison, which makes millions of small values, and hardly any cycle."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

ALLOCATIONS = 200_000
"""How many values more than were freed it takes until the collector looks at the youngest ones."""


@contextlib.contextmanager
def seldom() -> Iterator[None]:
    """Have the collector come seldom, and leave alone what is there already."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
