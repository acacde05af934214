"""What is captured for one target, and how a change of it comes to the target's lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.redisgears.api import as_bytes, execute
from gears.redisgears.names import OWN_KEYS
from gears.redisgears.written import BUCKETS

DOCUMENT = "$"


class Group:
    """What is captured for one target: which keys, and which fields of them (None: the whole hash)."""

    def __init__(self, deployment: Deployment, target: str) -> None:
        self.target = target
        functions = [each for each in deployment.capturing if each.target_name == target]
        self.covering = [each.mapping.keys.covers for each in functions]
        self.covering_text = [each.mapping.keys.covers_text for each in functions]
        self.may_cover_own = any(_may_begin(each.mapping.keys.prefix, OWN_KEYS) for each in functions)
        """Whether it may cover keys that are no user's."""
        self.functions = [each.name for each in functions]
        self.counted = [0]
        """Its one element: how many changes were captured."""
        self._documents = [each.mapping.keys.covers for each in functions if each.mapping.type == kinds.JSON]
        self._operating = [each.mapping.keys.covers for each in functions if each.mapping.operations]
        fields: dict[str, None] = {}
        whole = False
        for function in functions:
            captured = function.captured_fields()
            whole = whole or captured is None
            fields.update(dict.fromkeys(captured or ()))
        self.fields = None if whole else tuple(fields)
        self.lane = ""
        """Its stream on this shard, as the shard is now."""
        self.marks: list[str | None] = []
        """Where the last change of each group of keys is noted (written.py), while ``watched``."""
        self.watched: Sequence[bool] = (False,)
        self.place = ["", ""]
        """The lane, and how the value of a plain write's entry begins there."""

    @property
    def captured(self) -> int:
        """How many changes were captured."""
        return self.counted[0]

    @property
    def has_documents(self) -> bool:
        """Whether some of its keys hold JSON."""
        return bool(self._documents)

    def covers(self, key: bytes) -> bool:
        """Whether a function of the target covers the key."""
        return any(covers(key) for covers in self.covering)

    def operates(self, key: bytes) -> bool:
        """Whether a function of the target takes the key's field ``#`` for an operation."""
        return any(covers(key) for covers in self._operating)

    def holds_document(self, key: Any) -> bool:
        """Whether the key is one of those that hold JSON."""
        if not self._documents:
            return False
        name = as_bytes(key)
        return any(covers(name) for covers in self._documents)

    def append(self, key: Any, *pairs: Any) -> None:
        """Append a change of a key to the lane."""
        name = key.encode() if type(key) is str else key
        self.counted[0] += 1
        added = execute("XADD", self.lane, "*", "k", key, *pairs)
        if self.watched[0]:
            self.marks[crc32(name) % BUCKETS] = added

    def image(self, key: Any) -> list[Any] | None:
        """Return the captured fields and values of a key, flat; None: it is no hash.

        A document is as one field.
        """
        try:
            if self.holds_document(key):
                document = execute("GET", key)
                return None if document is None else [DOCUMENT, document]
            if self.fields is None:
                return execute("HGETALL", key) or None
            values = execute("HMGET", key, *self.fields)
        except Exception as error:
            if "WRONGTYPE" in str(error):
                return None
            raise
        image = [part for pair in zip(self.fields, values) if pair[1] is not None for part in pair]
        return image if image or execute("EXISTS", key) else None


def _may_begin(prefix: bytes, other: bytes) -> bool:
    """Whether some key begins with both."""
    return prefix.startswith(other) or other.startswith(prefix)
