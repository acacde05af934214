"""Tables that are missing: their DDL by SQLAlchemy, printed or executed. Nothing is dropped or altered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from connectors import Connector


def statements(tables: Sequence[sa.Table], dialect: sa.engine.Dialect) -> list[str]:
    """Return the statements that make tables, parents first, each without its semicolon."""
    made: list[str] = []

    def note(element: Any, *_: Any, **__: Any) -> None:
        lines = str(element.compile(dialect=dialect)).strip().split("\n")
        made.append("\n".join(re.sub("^\t", "    ", line.rstrip()) for line in lines))

    url = URL.create(f"{dialect.name}+{dialect.driver}")
    for metadata in _metadata(tables):
        engine = sa.create_mock_engine(url, note)
        metadata.create_all(engine, tables=_of(metadata, tables), checkfirst=False)
    return made


def create(connector: Connector, tables: Sequence[sa.Table]) -> None:
    """Make tables, in one transaction where the database has one for this. Raises ConnectorError."""
    with connector.transaction() as connection:
        for metadata in _metadata(tables):
            # What is there by now is left alone.
            metadata.create_all(connection, tables=_of(metadata, tables))
    connector.forget_tables()


def _metadata(tables: Sequence[sa.Table]) -> list[sa.MetaData]:
    return list({id(table.metadata): table.metadata for table in tables}.values())


def _of(metadata: sa.MetaData, tables: Sequence[sa.Table]) -> list[sa.Table]:
    return [table for table in tables if table.metadata is metadata]
