"""PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.letters import TABLE_NAME as LETTERS
from deploy.doctor.databases import common
from deploy.doctor.databases.common import WRITES, Asked

_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit',
  'max_connections', 'superuser_reserved_connections', 'transaction_read_only', 'transaction_isolation',
  'server_encoding')
"""
_TABLE = """
SELECT c.relpersistence, row_security_active(c.oid), has_table_privilege(c.oid, 'SELECT'),
  has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'),
  has_table_privilege(c.oid, 'DELETE')
FROM pg_class c WHERE c.oid = to_regclass(%s)
"""
_TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal
  AND tgname NOT LIKE 'gearsync%%'
"""


def check(asked: Asked) -> None:
    """Look at a server, and at the tables that functions write there."""
    settings = {str(name): str(value) for name, value in asked.rows(_SETTINGS)}
    _check_session(asked, settings)
    _check_durability(asked, settings)
    used = asked.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    reserved = int(settings.get("superuser_reserved_connections", 0))
    common.check_room(asked, int(used), int(settings.get("max_connections", 0)) - reserved)
    if settings.get("server_encoding") != "UTF8":
        asked.place.warn(
            "charset",
            f"The database is encoded in {settings.get('server_encoding')}.",
            "A value with a character that this lacks is a dead letter.",
            "Create the database with ENCODING 'UTF8'.",
        )
    for table in asked.tables:
        _check_table(asked, table)
    _check_own_tables(asked)


_MAY_CREATE = "SELECT has_schema_privilege(COALESCE(%s, current_schema()), 'CREATE')"


def _check_own_tables(asked: Asked) -> None:
    grant = "GRANT CREATE ON SCHEMA … TO this user."
    may_create = asked.value(_MAY_CREATE, asked.connector.schema)
    for table, is_there in asked.own.items():
        if is_there:
            _check_rights(asked, table, WRITES)
        elif not may_create:
            common.add_privileges(asked, table, ["CREATE"], grant)
    if asked.has_letters:
        quoted = asked.connector.quoted_table(LETTERS)
        missing = _lacking(asked, quoted, WRITES)
        if missing:
            common.add_forgetful(asked, missing, f"GRANT {', '.join(missing)} ON {quoted} TO this user.")
    elif not may_create and asked.own[CHECKPOINT]:
        common.add_forgetful(asked, ["CREATE"], grant)


def _check_rights(asked: Asked, table: str, needed: Sequence[str]) -> None:
    quoted = asked.connector.quoted_table(table)
    missing = _lacking(asked, quoted, needed)
    if missing:
        grant = f"GRANT {', '.join(missing)} ON {quoted} TO this user."
        common.add_privileges(asked, table, missing, grant)


def _lacking(asked: Asked, quoted: str, needed: Sequence[str]) -> list[str]:
    """Return which of the rights that are needed on a table this user lacks."""
    return [
        name
        for _, _, *rights in asked.rows(_TABLE, quoted)
        for name, has in zip(WRITES, rights)
        if name in needed and not has
    ]


def _check_session(asked: Asked, settings: dict[str, str]) -> None:
    # A session that reads says so of itself, so the server is asked.
    if asked.value("SELECT pg_is_in_recovery()") or asked.value(
        "SELECT current_setting('default_transaction_read_only') = 'on'"
    ):
        common.add_read_only(
            asked,
            "Have the URL lead to the primary, and see the user's default_transaction_read_only.",
        )
    level = settings.get("transaction_isolation", "read committed")
    if level != "read committed":
        asked.place.warn(
            "isolation",
            f"The session's isolation level is {level}, though gearsync sets READ COMMITTED.",
            "Batches may fail because of other programs' writes, and are tried again.",
            "Let the pooler before the database pass it on.",
        )
    if asked.value("SELECT current_setting('gearsync.own', true)") != "1":
        asked.place.warn(
            "pooler",
            "The session lacks the settings that gearsync gives it at its start.",
            "A pooler drops them: locks are waited for without end, and WriteAround takes gearsync's own "
            "writes for others'.",
            "In PgBouncer, take options out of ignore_startup_parameters.",
        )


def _check_durability(asked: Asked, settings: dict[str, str]) -> None:
    if settings.get("fsync") == "off":
        common.add_lossy_commit(asked, "fsync is off", True, "ALTER SYSTEM SET fsync = on, then reload.")
    if settings.get("synchronous_commit") == "off":
        todo = "ALTER ROLE … SET synchronous_commit = on, or ALTER SYSTEM, for the worker's user."
        common.add_lossy_commit(asked, "synchronous_commit is off", True, todo)
    if settings.get("full_page_writes") == "off":
        asked.place.warn(
            "durability",
            "full_page_writes is off.",
            "A crash of the machine in the middle of a page leaves a table that can't be read.",
            "ALTER SYSTEM SET full_page_writes = on, unless its file system writes pages whole.",
        )


def _check_table(asked: Asked, table: str) -> None:
    quoted = asked.connector.quoted_table(table)
    for persistence, row_security, *_ in asked.rows(_TABLE, quoted):
        if persistence == "u":
            asked.place.error(
                "unlogged",
                f"The table {table} is UNLOGGED.",
                "A crash of PostgreSQL empties it, and the checkpoint says that its changes are there.",
                f"ALTER TABLE {quoted} SET LOGGED, then gearsync backfill.",
            )
        if row_security:
            asked.place.warn(
                "row-security",
                f"{table} has row security.",
                "Rows that the policies hide from the worker's user are not updated or deleted.",
                "Give the worker a user with BYPASSRLS, or a policy for all rows.",
            )
    _check_rights(asked, table, asked.needed(table))
    others = [str(name) for (name,) in asked.rows(_TRIGGERS, quoted)]
    if others:
        common.add_triggers(asked, table, others)
