"""What is asked of every database, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from connectors import Connector, SchemaMismatch
from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.intents import TABLE_NAME as INTENTS
from connectors.bookkeeping.letters import TABLE_NAME as LETTERS
from deploy.doctor.findings import Place
from gears.declaring.functions import Function

WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: From so many of its connections in use on, a database has few to spare.
NEARLY_FULL = 0.8
#: MySQL's number of "command denied to user … for table …".
DENIED = 1142


@dataclass(frozen=True)
class Asked:
    """One database, a connection to it as the worker's are, and whose functions write there."""

    connector: Connector
    connection: Connection
    functions: Sequence[Function]
    place: Place

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows of a statement with the driver's own placeholders."""
        return list(self.connection.exec_driver_sql(statement, values or None))

    def value(self, statement: str, *values: Any) -> Any:
        """Return the only value of the only row; None when there is none."""
        rows = self.rows(statement, *values)
        return rows[0][0] if rows else None

    def is_there(self, table: str) -> bool:
        """Whether a table is there, as far as this user is told."""
        try:
            return self.connector.has_table(self.connection, table)
        except DBAPIError as error:
            # Of MySQL and MariaDB, to who has no right on it at all.
            if getattr(error.orig, "args", ())[:1] != (DENIED,):
                raise
            return False

    @property
    def named(self) -> list[str]:
        """The tables of the functions, each once, in their order."""
        return list(dict.fromkeys(each.mapping.table for each in self.functions))

    @property
    def tables(self) -> list[str]:
        """Those of them that are there."""
        return [name for name in self.named if self.is_there(name)]

    def needed(self, table: str) -> tuple[str, ...]:
        """Return the rights that the functions of a table need there."""
        writes = any(each.captures for each in self.functions if each.mapping.table == table)
        return WRITES if writes else WRITES[:1]

    @property
    def own(self) -> dict[str, bool]:
        """The worker's own tables without which it waits, and whether they are there."""
        names = [CHECKPOINT]
        if any(each.kind == "write-through" for each in self.functions):
            names.append(INTENTS)
        return {name: self.is_there(name) for name in names}

    @property
    def has_letters(self) -> bool:
        """Whether the table is there already that remembers dead letters."""
        return self.is_there(LETTERS)


def add_read_only(asked: Asked, todo: str) -> None:
    """Add that nothing can be written."""
    asked.place.error(
        "read-only",
        "The database takes no writes: it is read-only, or a replica.",
        "No change gets in.",
        todo,
    )


def add_lossy_commit(asked: Asked, setting: str, is_fatal: bool, todo: str) -> None:
    """Add a setting by which a commit may be lost that the database has confirmed.

    ``is_fatal``: by a crash of the database alone; else it takes one of the machine.
    """
    add = asked.place.error if is_fatal else asked.place.warn
    add(
        "durability",
        f"{setting}.",
        f"A crash of the {'database' if is_fatal else 'machine'} loses confirmed commits, and Redis has "
        "dropped their changes by then: SQL lacks them until their keys are written again.",
        todo,
    )


def check_room(asked: Asked, used: int, most: int) -> None:
    """Look at how many connections are in use."""
    if most and used >= most * NEARLY_FULL:
        asked.place.warn(
            "connections",
            f"{used} of {most} connections are in use.",
            "A worker that gets none waits, and its changes with it.",
            "Raise max_connections, or put a pooler before the other clients.",
        )


def add_privileges(asked: Asked, table: str, missing: Sequence[str], grant: str) -> None:
    """Add the rights that this user lacks on a table."""
    asked.place.error(
        "privileges",
        f"This user may not {', '.join(missing)} on {table}.",
        "The worker's statements are refused there, and it waits.",
        grant,
    )


def add_forgetful(asked: Asked, missing: Sequence[str], grant: str) -> None:
    """Add the rights that this user lacks to remember dead letters."""
    asked.place.warn(
        "privileges",
        f"This user may not {', '.join(missing)} on {LETTERS}, where dead letters are remembered.",
        "Batches go in all the same, but a dead letter that Redis forgets, by a crash or the promotion of a "
        "replica, is lost.",
        grant,
    )


def add_triggers(asked: Asked, table: str, names: Sequence[str]) -> None:
    """Add triggers of others on a table."""
    asked.place.note(
        "triggers",
        f"{table} has triggers that are not gearsync's: {', '.join(sorted(names))}.",
        "They run for each row of a batch; what they refuse is a dead letter, and what they change in the "
        "row, gearsync verify finds.",
    )


def check_unique(asked: Asked) -> None:
    """Look for unique indexes beside the primary key."""
    for name in asked.tables:
        try:
            sets = asked.connector.table(name).unique_sets
        except SchemaMismatch:
            # The check of the functions tells of it.
            continue
        if sets:
            shown = ", ".join(f"({', '.join(each)})" for each in sets)
            asked.place.note(
                "unique",
                f"{name} has unique indexes beside its primary key: {shown}.",
                "A key whose value another row has is a dead letter; Redis itself does not know of it.",
            )
