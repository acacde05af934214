"""How PostgreSQL writes values of types that gearsync does not know: arrays, intervals, addresses."""

from __future__ import annotations

import re

from connectors.base import Connector
from connectors.errors import Refused
from connectors.tables import Column

#: What is stored as it comes.
_TEXTS = re.compile(r'(?:text|name|"char"|bytea|json|character(?: varying)?(?:\([0-9]+\))?)\Z')


def as_stored(connector: Connector, column: Column, value: str) -> bytes | None:
    """Return the text of a value in a column; None: it is refused, or stored as it comes."""
    if _TEXTS.match(column.type_text):
        return None
    # A cast to limits would make what is refused the same as another value.
    wanted = column.type_text if column.type_text.startswith("character(") else column.sent_as
    typed = f"CAST(CAST(%s AS text) AS {wanted.replace('%', '%%')})"
    try:
        with connector.transaction(reads=True) as connection:
            statement = f"SELECT {column.text.select.format(typed)}"
            return column.text.encode(connection.exec_driver_sql(statement, (value,)).scalar_one())
    except Refused:
        return None
