"""Triggers that write down which rows somebody changes in SQL, in the outbox that followers read.

``triggers_of(connector)`` gives those of its database. The outbox holds primary keys alone: what a row is by
then is asked of the table. Each part of a key stands there as the hex digits of its text (UTF-8), or of its
bytes where the column holds bytes, and the parts are joined by commas in the order of the table's key; a NULL
stands for all rows of the table.
"""

from __future__ import annotations

from connectors.base import Connector
from connectors.errors import SchemaMismatch
from connectors.registry import class_at
from connectors.triggers.base import CURRENT, MISSING, OUTDATED, Triggers

__all__ = ["CURRENT", "MISSING", "OUTDATED", "Triggers", "triggers_of"]

_CLASSES = {
    "postgresql": "connectors.triggers.postgres:PostgresTriggers",
    "mysql": "connectors.triggers.mysql:MySQLTriggers",
    "sqlite": "connectors.triggers.sqlite:SQLiteTriggers",
}


def triggers_of(connector: Connector) -> Triggers:
    """Return the triggers for a connector's database. Raises SchemaMismatch when gearsync has none for it."""
    location = _CLASSES.get(connector.backend)
    if location is None:
        raise SchemaMismatch(f"gearsync has no triggers for {connector.backend}: it can't follow its tables")
    made: Triggers = class_at(location)(connector)
    return made
