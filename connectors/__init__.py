"""Batches of changes to SQL: one transaction a batch, with the checkpoint, on any database of SQLAlchemy.

``connect(target.resolve())`` gives the connector of a database. PostgreSQL, MySQL/MariaDB and SQLite have a
bulk path of their own. Another database that SQLAlchemy has a dialect for is one small file::

    from connectors.base import Connector
    from connectors.registry import register

    class OracleConnector(Connector):
        pass

    register("oracle", "my_package.oracle:OracleConnector")

Such a class writes by portable SQLAlchemy Core and judges errors by the classes of the DB-API. Whatever the
database can do better is one method to override: ``_upsert`` and ``_delete`` (in bulk), ``_explain`` (its
error codes), ``_converter`` (its own types), ``_engine_options`` (timeouts, isolation). The suite in
``tests/integration/connectors`` is what it must pass.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from connectors.errors import (
    ConnectorError,
    ConversionError,
    Fenced,
    NotHandedOver,
    SchemaMismatch,
    TargetError,
    Unavailable,
    UnreadableRow,
)
from connectors.rows import Applied, Claim, Moves, Position, Refusal, RowOp
from connectors.target import Target

if TYPE_CHECKING:
    from connectors.base import Connector
    from connectors.registry import connect, register
    from connectors.tables import Column, Table

#: What brings SQLAlchemy along, imported when it is asked for: most commands never talk to a database, and
#: start in half the time without it.
_WITH_SQLALCHEMY = {
    "Column": "connectors.tables",
    "Connector": "connectors.base",
    "Table": "connectors.tables",
    "connect": "connectors.registry",
    "register": "connectors.registry",
}

__all__ = [
    "Applied",
    "Claim",
    "Column",
    "Connector",
    "ConnectorError",
    "ConversionError",
    "Fenced",
    "Moves",
    "NotHandedOver",
    "Position",
    "Refusal",
    "RowOp",
    "SchemaMismatch",
    "Table",
    "Target",
    "TargetError",
    "Unavailable",
    "UnreadableRow",
    "connect",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _WITH_SQLALCHEMY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WITH_SQLALCHEMY[name]), name)
