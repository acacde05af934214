"""What the triggers of all databases have in common: their names, the tables behind them, their state."""

from __future__ import annotations

import hashlib
from typing import Any, Sequence

from sqlalchemy.engine import Connection

from connectors.base import Connector
from connectors.tables import Table

OUTBOX = "gearsync_outbox"
FOLLOWER = "gearsync_follower"

#: The states of a table's triggers.
MISSING, OUTDATED, CURRENT = "missing", "outdated", "current"


class Triggers:
    """Makes, looks at and drops the triggers of tables in one database.

    What statements there are, each dialect says: they are complete, and come one by one. ``separator`` stands
    between those that are printed for the database's own client.
    """

    separator = ";"
    #: Who may write to a table sees its triggers.
    are_seen_by_all = True

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    # -- What a dialect says -------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        """Return a name as an identifier."""
        return '"' + name.replace('"', '""') + '"'

    def table_statements(self, connection: Connection) -> list[str]:
        """Return what creates the outbox and what belongs to it, where it is not there yet."""
        raise NotImplementedError

    def create_statements(self, connection: Connection, table: Table) -> list[str]:
        """Return what makes a table's triggers, in the place of any older ones."""
        raise NotImplementedError

    def drop_statements(self, connection: Connection, name: str) -> list[str]:
        """Return what drops a table's triggers, if they are there."""
        raise NotImplementedError

    def installed(self, connection: Connection, name: str) -> dict[str, str]:
        """Return the definitions of our triggers that a table has, by name, as far as they tell a state."""
        raise NotImplementedError

    def expected(self, connection: Connection, table: Table) -> dict[str, str]:
        """Return what ``installed`` gives of a table whose triggers are as they should be."""
        raise NotImplementedError

    def followed(self, connection: Connection) -> list[str]:
        """Return the names of all tables in the schema that have triggers of ours."""
        raise NotImplementedError

    def warnings(self, connection: Connection, name: str) -> list[str]:
        """Return a sentence about each way in which rows of the table change unseen."""
        return []

    # -- What is the same for all --------------------------------------------------------------------------

    def statements(self, tables: Sequence[Table]) -> list[str]:
        """Return all that the tables need, in its order."""
        with self._connector.transaction() as connection:
            made = self.table_statements(connection)
            for table in tables:
                made += self.create_statements(connection, table)
            return made

    def names_of(self, names: Sequence[str]) -> list[str]:
        """Return those tables that have triggers of ours."""
        with self._connector.transaction() as connection:
            followed = set(self.followed(connection))
            return [name for name in names if name in followed]

    def drops(self, names: Sequence[str]) -> list[str]:
        """Return what takes the triggers of the tables away, and the outbox if no other table needs it."""
        with self._connector.transaction() as connection:
            made = [each for name in names for each in self.drop_statements(connection, name)]
            if not set(self.followed(connection)) - set(names):
                made += self.drop_table_statements(connection)
            return made

    def drop_table_statements(self, connection: Connection) -> list[str]:
        """Return what drops the outbox and what belongs to it."""
        return [f"DROP TABLE IF EXISTS {self.place(name)}" for name in (FOLLOWER, OUTBOX)]

    def state(self, table: Table) -> str:
        """Return ``missing``, ``outdated`` or ``current``: how a table's triggers are, with the outbox."""
        with self._connector.transaction() as connection:
            found = self.installed(connection, table.name)
            if not found or not self._connector.has_table(connection, OUTBOX):
                return MISSING
            wanted = self.expected(connection, table)
            same = {name: text.split() for name, text in found.items()} == {
                name: text.split() for name, text in wanted.items()
            }
            return CURRENT if same else OUTDATED

    def warnings_of(self, table: Table) -> list[str]:
        """Return a sentence about each way in which rows of the table change unseen."""
        with self._connector.transaction() as connection:
            return self.warnings(connection, table.name)

    def run(self, statements: Sequence[str]) -> None:
        """Run statements in one transaction, where the database has transactions for them."""
        with self._connector.transaction() as connection:
            for statement in statements:
                execute(connection, statement)

    def place(self, name: str) -> str:
        """Return a table's name, with the target's schema if it has one."""
        schema = self._connector.schema
        return f"{self.quote(schema)}.{self.quote(name)}" if schema else self.quote(name)


def execute(connection: Connection, statement: str) -> Any:
    """Run a statement as it is: a percent sign in it is no placeholder."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def digest(table: str) -> str:
    """Return what stands for a table in names that have to be short."""
    return hashlib.sha256(table.encode()).hexdigest()[:12]


def literal(text: str) -> str:
    """Return a text as a literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"
