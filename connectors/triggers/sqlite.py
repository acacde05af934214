"""The triggers on SQLite. A transaction of our own says so in a table, for there are no session variables."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from connectors.tables import Table
from connectors.triggers.base import FOLLOWER, OUTBOX, Triggers, digest, literal

#: One row, which is 1 while a transaction of the connector is open, and never so after a COMMIT.
OWN = "gearsync_own"
_EVENTS = ("INSERT", "UPDATE", "DELETE")


class SQLiteTriggers(Triggers):
    """Those of SQLite."""

    def table_statements(self, connection: Connection) -> list[str]:
        return [
            f"CREATE TABLE IF NOT EXISTS {self.place(OUTBOX)} (\n"
            "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
            "    name TEXT NOT NULL,\n"
            "    pk TEXT,\n"
            "    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))\n"
            ")",
            f"CREATE TABLE IF NOT EXISTS {self.place(FOLLOWER)} (\n"
            "    name TEXT NOT NULL PRIMARY KEY,\n"
            "    position TEXT NOT NULL,\n"
            "    horizon INTEGER,\n"
            "    functions TEXT NOT NULL,\n"
            "    seen_at INTEGER NOT NULL\n"
            ")",
            f"CREATE TABLE IF NOT EXISTS {self.place(OWN)} (own INTEGER NOT NULL)",
            f"INSERT INTO {self.place(OWN)} SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {self.place(OWN)})",
        ]

    def drop_table_statements(self, connection: Connection) -> list[str]:
        return [f"DROP TABLE IF EXISTS {self.place(name)}" for name in (OWN, FOLLOWER, OUTBOX)]

    def create_statements(self, connection: Connection, table: Table) -> list[str]:
        made = self.drop_statements(connection, table.name)
        for event in _EVENTS:
            head = f"CREATE TRIGGER {self.place(_name(event, table.name))} "
            made.append(head + self._body(event, table))
        return made

    def drop_statements(self, connection: Connection, name: str) -> list[str]:
        return [f"DROP TRIGGER IF EXISTS {self.place(_name(event, name))}" for event in _EVENTS]

    def installed(self, connection: Connection, name: str) -> dict[str, str]:
        ours = [_name(event, name) for event in _EVENTS]
        rows = connection.exec_driver_sql(f"SELECT name, sql FROM {self._master()} WHERE type = 'trigger'")
        return {row[0]: row[1][row[1].index("AFTER ") :] for row in rows if row[0] in ours}

    def expected(self, connection: Connection, table: Table) -> dict[str, str]:
        return {_name(event, table.name): self._body(event, table) for event in _EVENTS}

    def followed(self, connection: Connection) -> list[str]:
        query = (
            f"SELECT tbl_name FROM {self._master()} WHERE type = 'trigger' AND name GLOB 'gearsync_insert_*'"
        )
        return [str(row[0]) for row in connection.exec_driver_sql(query)]

    def warnings(self, connection: Connection, name: str) -> list[str]:
        if not self._connector.table(name).unique_sets:
            return []
        return [
            f"{name} has a unique index beside its primary key: a row that INSERT OR REPLACE takes away for "
            "it goes unseen, unless the writer sets PRAGMA recursive_triggers = ON"
        ]

    def _master(self) -> str:
        schema = self._connector.schema
        return f"{self.quote(schema)}.sqlite_master" if schema else "sqlite_master"

    def _body(self, event: str, table: Table) -> str:
        insert = f"INSERT INTO {OUTBOX} (name, pk) "
        old, new = (self._key(table, row) for row in ("OLD", "NEW"))
        lines = [f"{insert}VALUES ({literal(table.name)}, {old if event == 'DELETE' else new});"]
        if event == "UPDATE":
            lines.append(f"{insert}SELECT {literal(table.name)}, {old} WHERE {old} <> {new};")
        return (
            f"AFTER {event} ON {self.quote(table.name)}\n"
            f"WHEN NOT EXISTS (SELECT 1 FROM {OWN} WHERE own)\n"
            "BEGIN\n" + "".join(f"    {line}\n" for line in lines) + "END"
        )

    def _key(self, table: Table, row: str) -> str:
        # hex() of a number takes its text, of a text or of bytes their bytes.
        return " || ',' || ".join(f"hex({row}.{self.quote(name)})" for name in table.primary_key)


def _name(event: str, table: str) -> str:
    return f"gearsync_{event.lower()}_{digest(table)}"
