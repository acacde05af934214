"""Whether checksums are worth it: where chunk after chunk differs, rows are read at once."""

from __future__ import annotations

from collections.abc import Callable

from connectors.errors import Refused

TRIES = 5
"""After so many chunks whose checksums all differ, rows are read at once, but for one in some."""
NOW_AND_THEN = 16


class Trying:
    """Compares the checksums of chunks as long as that tells anything. Several threads may share it."""

    def __init__(self) -> None:
        self._in_vain = 0

    def agree(self, local: Callable[[], str | None], remote: Callable[[], str]) -> bool:
        """Return whether both checksums are the same; False: they differ, or were not asked for."""
        if self._in_vain >= TRIES and self._in_vain % NOW_AND_THEN:
            self._in_vain += 1
            return False
        ours = local()
        try:
            found = ours is not None and ours == remote()
        except Refused:
            # A key is none of the type: reading tells which.
            found = False
        self._in_vain = 0 if found else self._in_vain + 1
        return found
