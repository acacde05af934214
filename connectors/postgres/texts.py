"""How PostgreSQL writes values of types that gearsync does not know: arrays, intervals, addresses."""

from __future__ import annotations

from connectors.base import Connector
from connectors.errors import Refused
from connectors.tables import Column

#: What is stored as it comes.
_TEXTS = ("text", "character", "name", '"char"', "bytea", "json")


def as_stored(connector: Connector, column: Column, value: str) -> bytes | None:
    """Return the text of a value in a column; None: it is refused, or stored as it comes."""
    if column.type_text.startswith(_TEXTS):
        return None
    typed = f"CAST(CAST(%s AS text) AS {column.type_text.replace('%', '%%')})"
    try:
        with connector.transaction(reads=True) as connection:
            statement = f"SELECT {column.text.select.format(typed)}"
            return column.text.encode(connection.exec_driver_sql(statement, (value,)).scalar_one())
    except Refused:
        return None
