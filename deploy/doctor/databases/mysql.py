"""MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.letters import TABLE_NAME as LETTERS
from connectors.triggers import triggers_of
from deploy.doctor.databases import common
from deploy.doctor.databases.common import WRITES, Asked

#: Below it one batch of rows with long values is cut into many statements, and one long value is refused.
SMALL_PACKET = 4 << 20
_NAMES = (
    "innodb_flush_log_at_trx_commit",
    "innodb_doublewrite",
    "log_bin",
    "sync_binlog",
    "max_allowed_packet",
    "max_connections",
    "read_only",
)
_CHARSETS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s
  AND character_set_name IN ('utf8', 'utf8mb3')
"""
_TRIGGERS = """
SELECT trigger_name FROM information_schema.triggers
WHERE event_object_schema = COALESCE(%s, DATABASE()) AND event_object_table = %s
"""
_GRANTS = """
SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = %s
UNION SELECT privilege_type FROM information_schema.schema_privileges
WHERE grantee = %s AND COALESCE(%s, DATABASE()) LIKE table_schema
UNION SELECT privilege_type FROM information_schema.table_privileges
WHERE grantee = %s AND table_schema = COALESCE(%s, DATABASE()) AND table_name = %s
"""


def check(asked: Asked) -> None:
    """Look at a server, and at the tables that functions write there."""
    variables = _variables(asked)
    _check_session(asked)
    _check_durability(asked, variables)
    if variables.get("read_only") == "ON":
        # Users with the right to write all the same are not for workers.
        common.add_read_only(asked, "Have the URL lead to the primary, or SET GLOBAL read_only = OFF there.")
    packet = int(variables.get("max_allowed_packet", SMALL_PACKET))
    if packet < SMALL_PACKET:
        asked.place.warn(
            "max_allowed_packet",
            f"max_allowed_packet is {packet:,} bytes.",
            "A row that is larger is a dead letter, and batches are cut into more statements.",
            "SET GLOBAL max_allowed_packet = 67108864, and the same in its configuration file.",
        )
    used = asked.rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    common.check_room(asked, int(used[0][1]), int(variables.get("max_connections", 0)))
    for table in asked.tables:
        _check_table(asked, table)
    _check_privileges(asked)


def _variables(asked: Asked) -> dict[str, str]:
    names = ", ".join(f"'{name}'" for name in _NAMES)
    rows = asked.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    return {str(name): str(value) for name, value in rows}


def _check_session(asked: Asked) -> None:
    """A proxy between may keep from the session what the connector has set."""
    mode, server_mode, zone = asked.rows("SELECT @@SESSION.sql_mode, @@GLOBAL.sql_mode, @@SESSION.time_zone")[
        0
    ]
    if "STRICT" not in mode:
        asked.place.error(
            "sql_mode",
            f"The session's sql_mode is {mode!r}, though gearsync sets it.",
            "Without a strict mode values are cut and guessed, and nobody is told.",
            "Let the proxy before the database pass SET SESSION on.",
        )
    elif "STRICT" not in server_mode:
        asked.place.note(
            "sql_mode",
            "The server's sql_mode is not strict; gearsync's own sessions are.",
            "What other programs write there may be cut, and differs from Redis then.",
            "SET GLOBAL sql_mode = CONCAT(@@GLOBAL.sql_mode, ',STRICT_ALL_TABLES').",
        )
    if zone not in ("+00:00", "UTC"):
        asked.place.error(
            "time_zone",
            f"The session's time zone is {zone}, though gearsync sets it to +00:00.",
            "Times in TIMESTAMP columns are off by the difference.",
            "Let the proxy before the database pass SET SESSION on.",
        )
    name = asked.rows("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')")
    level = str(name[0][1]) if name else "READ-COMMITTED"
    if level != "READ-COMMITTED":
        asked.place.warn(
            "isolation",
            f"The session's isolation level is {level}, though gearsync sets READ COMMITTED.",
            "Batches hold more locks, and wait for each other and for other programs.",
            "Let the proxy before the database pass it on.",
        )


def _check_durability(asked: Asked, variables: dict[str, str]) -> None:
    flush = variables.get("innodb_flush_log_at_trx_commit", "1")
    # MariaDB's 3 is 1 with more syncs.
    if flush not in ("1", "3"):
        todo = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and the same in its configuration file."
        common.add_lossy_commit(asked, f"innodb_flush_log_at_trx_commit is {flush}", flush == "0", todo)
    if variables.get("innodb_doublewrite") == "OFF":
        asked.place.warn(
            "durability",
            "innodb_doublewrite is OFF.",
            "A crash in the middle of a page leaves a table that can't be read.",
            "Set innodb_doublewrite = ON in its configuration file, unless pages are written whole.",
        )
    if variables.get("log_bin") == "ON" and variables.get("sync_binlog", "1") == "0":
        asked.place.note(
            "durability",
            "sync_binlog is 0.",
            "After a crash of the machine its replicas may lack, or have more than, what it has itself.",
            "SET GLOBAL sync_binlog = 1.",
        )


def _check_table(asked: Asked, table: str) -> None:
    place = (asked.connector.schema, table)
    narrow = [str(name) for (name,) in asked.rows(_CHARSETS, *place)]
    if narrow:
        asked.place.warn(
            "charset",
            f"{table} keeps {', '.join(narrow)} in utf8mb3.",
            "A value with a character beyond it, such as an emoji, is a dead letter.",
            f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 (mind the collation of its key).",
        )
    triggers = triggers_of(asked.connector)
    own = set(triggers.installed(asked.connection, table))
    others = [str(name) for (name,) in asked.rows(_TRIGGERS, *place) if name not in own]
    others = [name for name in others if not name.startswith("gearsync_")]
    if others:
        common.add_triggers(asked, table, others)


def _check_privileges(asked: Asked) -> None:
    """Rights that come by a role are not in these lists, so a user with roles is not judged."""
    user, _, host = str(asked.value("SELECT CURRENT_USER()")).rpartition("@")
    grantee = f"'{user}'@'{host}'"
    # A role is granted without ON: GRANT `writer` TO `user`.
    if any(" ON " not in str(row[0]) for row in asked.rows("SHOW GRANTS")):
        return
    schema = asked.connector.schema

    def has(table: str) -> set[str]:
        rows = asked.rows(_GRANTS, grantee, grantee, schema, grantee, schema, table)
        return {str(right) for (right,) in rows}

    for table in asked.named:
        _add_missing(asked, table, asked.needed(table), has(table))
    for table, is_there in asked.own.items():
        _add_missing(asked, table, WRITES if is_there else ("CREATE", *WRITES), has(table))
    if not asked.own[CHECKPOINT]:
        return
    rights = has(LETTERS)
    # Who has no right at all is not even told whether it is there.
    needed = WRITES if rights.intersection(WRITES) and asked.has_letters else ("CREATE", *WRITES)
    missing = [right for right in needed if right not in rights]
    if missing:
        common.add_forgetful(asked, missing, f"GRANT {', '.join(missing)} ON {LETTERS} TO this user.")


def _add_missing(asked: Asked, table: str, needed: Iterable[str], has: set[str]) -> None:
    missing = [right for right in needed if right not in has]
    if missing:
        common.add_privileges(asked, table, missing, f"GRANT {', '.join(missing)} ON {table} TO this user.")
