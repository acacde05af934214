"""The outbox as its readers see it: what was written down since a position, lossless and in any order.

``outbox_of(connector)`` gives that of a database. Positions are texts that only the database's own class
reads. What is read may come again after a failure, so that it must be harmless to bring it twice.
"""

from __future__ import annotations

from connectors.base import Connector
from connectors.errors import SchemaMismatch
from connectors.outbox.base import BegunAnew, Entry, Outbox, Waker
from connectors.outbox.followers import Followed, Followers
from connectors.registry import class_at

__all__ = ["BegunAnew", "Entry", "Followed", "Followers", "Outbox", "Waker", "outbox_of"]

_CLASSES = {
    "postgresql": "connectors.outbox.postgres:PostgresOutbox",
    "mysql": "connectors.outbox.mysql:MySQLOutbox",
    "sqlite": "connectors.outbox.sqlite:SQLiteOutbox",
}


def outbox_of(connector: Connector) -> Outbox:
    """Return the outbox for a connector's database. Raises SchemaMismatch when gearsync has none for it."""
    location = _CLASSES.get(connector.backend)
    if location is None:
        raise SchemaMismatch(f"gearsync has no outbox for {connector.backend}: it can't follow its tables")
    made: Outbox = class_at(location)(connector)
    return made
