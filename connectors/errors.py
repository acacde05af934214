"""What can go wrong between a batch of changes and a database, by what the caller can do about it.

::

    ConnectorError
    ├── Unavailable       nothing was committed for sure, or nobody knows: claim again and retry
    ├── Fenced            another worker owns the stream: stop
    ├── NotHandedOver     a key's old shard has changes of it that are not in SQL yet: wait
    ├── SchemaMismatch    a table, column, constraint or right is missing: an operator must act
    │   └── UnreadableRow what one row holds can't be read; others can
    ├── ConversionError   one value does not fit its column
    ├── TargetError       the reference of a target is wrong, or leads nowhere
    └── Refused           the database refuses rows for good; stays inside connectors, which isolate them

No message holds a password or a URL.
"""

from __future__ import annotations

from collections.abc import Sequence


class ConnectorError(Exception):
    """The root of all errors of connectors."""


class Unavailable(ConnectorError):
    """The database can't take the batch now: it is down, locked, full, read-only, or the connection broke.

    After an error in COMMIT nobody knows whether the batch is in: ``in_commit`` says so. So the stream must
    be claimed again before the retry: the claim's position tells.
    """

    in_commit = False


class Fenced(ConnectorError):
    """Another worker has claimed the stream since, or owns it by a higher epoch; nothing was committed.

    In the second case ``stream``, ``owner`` and ``epoch`` are those of the claim; else the names are empty.
    """

    def __init__(self, message: str, stream: str = "", owner: str = "", epoch: int = 0) -> None:
        super().__init__(message)
        self.stream = stream
        self.owner = owner
        self.epoch = epoch


class NotHandedOver(ConnectorError):
    """The old owners of some keys have changes of them that are not in SQL yet; nothing was committed.

    ``tokens`` are those that are not there.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        super().__init__("the shard that a key came from has not brought all its changes of it to SQL yet")
        self.tokens = tokens


class SchemaMismatch(ConnectorError):
    """A table, column, constraint or right is not as it must be; nothing was committed."""


class UnreadableRow(SchemaMismatch):
    """The database can't give what one row holds; its other rows may be read."""


class ConversionError(ConnectorError):
    """A value does not fit its column; the message is one sentence about the value, without the value."""


class TargetError(ConnectorError, ValueError):
    """The reference of a target is wrong, or the variable or file that it names is missing."""


class Refused(ConnectorError):
    """The database refuses some row of a statement for good. ``column`` is empty when it isn't known."""

    def __init__(self, reason: str, column: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column
