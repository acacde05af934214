"""Which class serves which kind of database."""

from __future__ import annotations

import importlib
from typing import Any

from sqlalchemy.engine import URL

from connectors.base import Connector
from connectors.errors import TargetError
from connectors.target import parse_url

# By name, so that only the driver that is used must be installed.
_CLASSES = {
    "postgresql": "connectors.postgres.connector:PostgresConnector",
    "mysql": "connectors.mysql.connector:MySQLConnector",
    "sqlite": "connectors.sqlite:SQLiteConnector",
}


def register(backend: str, location: str) -> None:
    """Serve URLs of ``backend`` (SQLAlchemy's name, ``oracle``) by the class at ``module:Class``."""
    _CLASSES[backend] = location


def class_at(location: str) -> Any:
    """Return the class at ``module:Class``; its module is imported only now. Raises ImportError."""
    module, name = location.split(":")
    return getattr(importlib.import_module(module), name)


def connect(url: URL | str, schema: str | None = None, **options: Any) -> Connector:
    """Return the connector for a URL; it connects when it is first used.

    ``schema`` is where the tables are; ``options`` go to the class. Raises TargetError for a database that
    no class serves, or whose driver is missing.
    """
    parsed = parse_url(url, "the URL") if isinstance(url, str) else url
    backend = parsed.get_backend_name()
    location = _CLASSES.get(backend)
    if location is None:
        known = ", ".join(sorted(_CLASSES))
        raise TargetError(f"gearsync has no connector for {backend}; it has some for {known}")
    try:
        connector_class = class_at(location)
    except ImportError as error:
        raise TargetError(f"the driver for {backend} is not installed: {error}") from error
    connector: Connector = connector_class(parsed, schema, **options)
    return connector
