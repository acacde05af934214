"""What a comparison has found, counted and named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.verifying.expected import DIFFERS, EXTRA, MISSING, Difference
from gears.applying.deadletters import readable

NAMED = 20
"""How many differences are named, unless asked for otherwise."""


@dataclass
class Named:
    """A difference with its key; None: a row that no key can have, with its primary key in ``row``. ``rows``:
    of a key of members, how many rows are missing, extra, or differ.
    """

    key: bytes | None
    kind: str
    columns: tuple[str, ...] = ()
    reason: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    repaired: bool = False
    rows: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it; keys that are no UTF-8 are ``{"base64": …}``."""
        made: dict[str, Any] = {"key": None if self.key is None else readable(self.key), "kind": self.kind}
        made.update(columns=list(self.columns), reason=self.reason, repaired=self.repaired)
        if self.rows:
            made["rows"] = dict(self.rows)
        return {**made, "row": self.row} if self.row else made


@dataclass
class Counts:
    """``hashes``: keys, of whatever type, compared with their rows; ``rows``: looked up in Redis.
    ``missing``, ``extra`` and ``differs``: what differs with nothing on its way; ``repaired``: of those, as
    they should be now.
    ``kept``: rows without a hash that a policy keeps. ``lagged``: differences that were gone at a second
    look. ``undecided``: keys of which changes still waited when the time was over. ``unkeyed``: rows that no
    key can have, counted as extra, too.
    """

    hashes: int = 0
    rows: int = 0
    missing: int = 0
    extra: int = 0
    differs: int = 0
    repaired: int = 0
    kept: int = 0
    lagged: int = 0
    undecided: int = 0
    unkeyed: int = 0
    named: list[Named] = field(default_factory=list)

    @property
    def found(self) -> int:
        """How many differences there were."""
        return self.missing + self.extra + self.differs

    @property
    def left(self) -> int:
        """How many differences are left, known ones and those that could not be told."""
        return self.found - self.repaired + self.undecided

    def add(self, key: bytes, difference: Difference, most: int) -> Named:
        """Count a difference, and name it if ``most`` are not named yet."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        made = Named(key, difference.kind, difference.columns, difference.reason, rows=difference.rows)
        if len(self.named) < most:
            self.named.append(made)
        return made

    def numbers(self) -> dict[str, int]:
        """Return the counts by name."""
        names = (
            "hashes",
            "rows",
            MISSING,
            EXTRA,
            DIFFERS,
            "repaired",
            "kept",
            "lagged",
            "undecided",
            "unkeyed",
        )
        return {name: int(getattr(self, name)) for name in names}
