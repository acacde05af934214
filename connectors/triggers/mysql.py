"""The triggers on MySQL and MariaDB. They run with the rights of who made them."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from connectors.tables import Column, Table
from connectors.triggers.base import FOLLOWER, OUTBOX, Triggers, digest

_EVENTS = ("INSERT", "UPDATE", "DELETE")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")

_INSTALLED = """
SELECT trigger_name, action_statement FROM information_schema.triggers
WHERE event_object_schema = {schema} AND event_object_table = {table} AND trigger_name LIKE 'gearsync\\_%'
"""
_FOLLOWED = """
SELECT DISTINCT event_object_table FROM information_schema.triggers
WHERE event_object_schema = {schema} AND trigger_name LIKE 'gearsync\\_insert\\_%'
"""
_CASCADES = """
SELECT constraint_name FROM information_schema.referential_constraints
WHERE constraint_schema = {schema} AND table_name = {table}
AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))
"""


class MySQLTriggers(Triggers):
    """Those of MySQL and MariaDB."""

    separator = "//"
    are_seen_by_all = False

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def table_statements(self, connection: Connection) -> list[str]:
        ascii_ = "CHARACTER SET ascii COLLATE ascii_bin"
        return [
            f"CREATE TABLE IF NOT EXISTS {self.place(OUTBOX)} (\n"
            "    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,\n"
            "    name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,\n"
            f"    pk MEDIUMTEXT {ascii_},\n"
            "    at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)\n"
            ") ENGINE = InnoDB",
            f"CREATE TABLE IF NOT EXISTS {self.place(FOLLOWER)} (\n"
            f"    name VARCHAR(255) {ascii_} PRIMARY KEY,\n"
            f"    position TEXT {ascii_} NOT NULL,\n"
            "    horizon BIGINT,\n"
            "    functions MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL,\n"
            "    seen_at BIGINT NOT NULL\n"
            ") ENGINE = InnoDB",
        ]

    def create_statements(self, connection: Connection, table: Table) -> list[str]:
        made = []
        for event in _EVENTS:
            name = self._place_of(event, table.name)
            made.append(f"DROP TRIGGER IF EXISTS {name}")
            made.append(
                f"CREATE TRIGGER {name} AFTER {event} ON {self.place(table.name)}\n"
                f"FOR EACH ROW {self._body(event, table)}"
            )
        return made

    def drop_statements(self, connection: Connection, name: str) -> list[str]:
        return [f"DROP TRIGGER IF EXISTS {self._place_of(event, name)}" for event in _EVENTS]

    def installed(self, connection: Connection, name: str) -> dict[str, str]:
        ours = {_name(event, name) for event in _EVENTS}
        return {row[0]: row[1] for row in self._ask(connection, _INSTALLED, name) if row[0] in ours}

    def expected(self, connection: Connection, table: Table) -> dict[str, str]:
        return {_name(event, table.name): self._body(event, table) for event in _EVENTS}

    def followed(self, connection: Connection) -> list[str]:
        return [str(row[0]) for row in self._ask(connection, _FOLLOWED, "")]

    def warnings(self, connection: Connection, name: str) -> list[str]:
        return [
            f"the foreign key {row[0]} of {name} changes its rows by itself (CASCADE or SET NULL), and MySQL "
            "and MariaDB run no triggers then: Redis is not told"
            for row in self._ask(connection, _CASCADES, name)
        ]

    def _ask(self, connection: Connection, query: str, table: str) -> list[tuple[str, ...]]:
        schema = _literal(self._connector.schema) if self._connector.schema else "DATABASE()"
        asked = query.format(schema=schema, table=_literal(table))
        rows = connection.exec_driver_sql(asked, execution_options={"no_parameters": True})
        return [tuple(map(str, row)) for row in rows]

    def _body(self, event: str, table: Table) -> str:
        # VALUES, no SELECT: that would hold a lock on the outbox to the end of the writer's statement.
        insert = f"INSERT INTO {self.place(OUTBOX)} (name, pk) VALUES ({_literal(table.name)}, "
        old, new = (self._key(table, row) for row in ("OLD", "NEW"))
        first = f"{insert}{old if event == 'DELETE' else new});"
        more = f"\n    IF {old} <> {new} THEN {insert}{old}); END IF;" if event == "UPDATE" else ""
        return f"IF @gearsync_own IS NULL THEN\n    {first}{more}\nEND IF"

    def _key(self, table: Table, row: str) -> str:
        parts = [_hex(f"{row}.{self.quote(name)}", table.columns[name]) for name in table.primary_key]
        return parts[0] if len(parts) == 1 else f"CONCAT({', 0x2C, '.join(parts)})"

    def _place_of(self, event: str, table: str) -> str:
        return self.place(_name(event, table))


def _name(event: str, table: str) -> str:
    return f"gearsync_{event.lower()}_{digest(table)}"


def _hex(column: str, of: Column) -> str:
    kind = of.type_text.partition("(")[0].partition(" ")[0]
    if kind in _BYTES:
        return f"HEX({column})"
    if kind == "bit":
        column = f"({column} + 0)"
    elif kind == "float" and "," not in of.type_text:
        # As it is, it would be shown with six digits.
        column = f"({column} + 0E0)"
    elif kind == "timestamp":
        # As text it would be in the time zone of the session.
        column = f"UNIX_TIMESTAMP({column})"
    return f"HEX(CONVERT(CAST({column} AS CHAR) USING utf8mb4))"


def _literal(text: str) -> str:
    # Whatever the session makes of backslashes and character sets.
    if text.isascii() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    return f"CONVERT(0x{text.encode().hex()} USING utf8mb4)"
