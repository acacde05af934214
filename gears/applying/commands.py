"""What the code that all hosts share asks of Redis, however a host reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_BYTES = 1 << 28
"""What every Redis takes that nobody has told otherwise: half of its proto-max-bulk-len."""


class Commands:
    """Runs Redis commands and returns their replies as RESP2 has them: bytes, whole numbers, lists, None."""

    def call(self, *words: Any) -> Any:
        """Run one command."""
        raise NotImplementedError

    def transaction(self, commands: Sequence[Sequence[Any]]) -> None:
        """Run commands with nothing in between; an error of any raises."""
        raise NotImplementedError

    def most_bytes(self) -> int:
        """Return how many bytes a text, and all texts of a transaction together, may have."""
        return MOST_BYTES
