"""The triggers on PostgreSQL 13 and newer: PL/pgSQL, with a notification that wakes followers.

The function runs with the rights of who made it, so that those who write to the table need none on the
outbox.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from connectors.errors import SchemaMismatch
from connectors.tables import Table
from connectors.triggers.base import FOLLOWER, OUTBOX, Triggers, digest, literal

#: Followers LISTEN to it.
CHANNEL = "gearsync_outbox"
ROWS, STATEMENT = "gearsync_rows", "gearsync_statement"
_OLDEST = 130000

# Texts of these types depend on no setting of the session.
_PLAIN = (
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "text",
    "character",
    "bpchar",
    "uuid",
    "bytea",
    '"char"',
)
_SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"
_SETTINGS = (
    "SET datestyle = 'ISO, YMD' SET timezone = 'UTC' SET intervalstyle = 'postgres' "
    "SET extra_float_digits = 1"
)

_INSTALLED = """
SELECT t.tgname, t.tgenabled::text, p.prosrc, p.prosecdef, array_to_string(p.proconfig, ';')
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = to_regclass({table}) AND t.tgname IN ('gearsync_rows', 'gearsync_statement')
"""
_FOLLOWED = """
SELECT DISTINCT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = 'gearsync_rows' AND c.relnamespace = {schema}::regnamespace AND t.tgparentid = 0
"""
# A partition that is truncated by itself runs no triggers but its own.
_PARTITIONS = """
SELECT format('%I.%I', n.nspname, c.relname), EXISTS (
    SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'gearsync_statement' AND t.tgenabled = 'A'
) FROM pg_partition_tree(to_regclass({table})) p
JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.level > 0
"""


class PostgresTriggers(Triggers):
    """Those of PostgreSQL."""

    def table_statements(self, connection: Connection) -> list[str]:
        version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
        if version < _OLDEST:
            raise SchemaMismatch("following a table needs PostgreSQL 13 or newer, for transaction numbers")
        outbox = f"{self._schema(connection)}.{OUTBOX}"
        # No sequence: lastval() of those who write to the table must stay theirs.
        return [
            f"CREATE TABLE IF NOT EXISTS {outbox} (\n"
            "    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),\n"
            "    id uuid NOT NULL DEFAULT gen_random_uuid(),\n"
            "    name text NOT NULL,\n"
            "    pk text,\n"
            "    at timestamptz NOT NULL DEFAULT clock_timestamp(),\n"
            "    PRIMARY KEY (xid, id)\n"
            ") WITH (autovacuum_vacuum_scale_factor = 0.05)",
            f"CREATE TABLE IF NOT EXISTS {self._schema(connection)}.{FOLLOWER} (\n"
            "    name text PRIMARY KEY,\n"
            "    position text NOT NULL,\n"
            "    horizon bigint,\n"
            "    functions text NOT NULL,\n"
            "    seen_at bigint NOT NULL\n"
            ")",
        ]

    def create_statements(self, connection: Connection, table: Table) -> list[str]:
        function = self._function(connection, table.name)
        place = self.place(table.name)
        dropped = [f"DROP TRIGGER IF EXISTS {name} ON {place}" for name in (ROWS, STATEMENT)]
        made = (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
            f"LANGUAGE plpgsql SECURITY DEFINER {' '.join(_settings(table))}\n"
            f"AS $gearsync${self._body(connection, table)}$gearsync$"
        )
        events = "INSERT OR UPDATE OR DELETE"
        of_partitions = [
            statement
            for part, _ in self._partitions(connection, table.name)
            for statement in (
                f"DROP TRIGGER IF EXISTS {STATEMENT} ON {part}",
                f"CREATE TRIGGER {STATEMENT} AFTER TRUNCATE ON {part}\n"
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
                f"ALTER TABLE {part} ENABLE ALWAYS TRIGGER {STATEMENT}",
            )
        ]
        return [
            made,
            *dropped,
            *of_partitions,
            f"CREATE TRIGGER {ROWS} AFTER {events} ON {place}\nFOR EACH ROW EXECUTE FUNCTION {function}()",
            f"CREATE TRIGGER {STATEMENT} AFTER {events} OR TRUNCATE ON {place}\n"
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            # Also for rows that logical replication brings.
            *(f"ALTER TABLE {place} ENABLE ALWAYS TRIGGER {name}" for name in (ROWS, STATEMENT)),
        ]

    def drop_statements(self, connection: Connection, name: str) -> list[str]:
        function = self._function(connection, name)
        dropped = [f"DROP TRIGGER IF EXISTS {each} ON {self.place(name)}" for each in (ROWS, STATEMENT)]
        for part, _ in self._partitions(connection, name):
            dropped.append(f"DROP TRIGGER IF EXISTS {STATEMENT} ON {part}")
        return [*dropped, f"DROP FUNCTION IF EXISTS {function}()"]

    def installed(self, connection: Connection, name: str) -> dict[str, str]:
        query = _INSTALLED.format(table=literal(self.place(name)))
        rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        found = {
            row[0]: _told(row[1], bool(row[3]), row[4].count("=") if row[4] else 0, row[2]) for row in rows
        }
        without = [part for part, has_ours in self._partitions(connection, name) if not has_ours]
        if found and without:
            # They came later.
            found["partitions"] = " ".join(without)
        return found

    def _partitions(self, connection: Connection, name: str) -> list[tuple[str, bool]]:
        """Return the partitions of a table, of all levels, and whether each has its trigger."""
        query = _PARTITIONS.format(table=literal(self.place(name)))
        rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        return [(str(row[0]), bool(row[1])) for row in rows]

    def expected(self, connection: Connection, table: Table) -> dict[str, str]:
        settings = " ".join(_settings(table)).count(" = ")
        told = _told("A", True, settings, self._body(connection, table))
        return {ROWS: told, STATEMENT: told}

    def followed(self, connection: Connection) -> list[str]:
        query = _FOLLOWED.format(schema=literal(self._schema(connection)))
        rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        return [str(row[0]) for row in rows]

    def _body(self, connection: Connection, table: Table) -> str:
        insert = f"INSERT INTO {self._schema(connection)}.{OUTBOX} (name, pk) VALUES ({literal(table.name)}, "
        old, new = (self._key(table, row) for row in ("OLD", "NEW"))
        return f"""
BEGIN
    IF current_setting('gearsync.own', true) = '1' THEN
        RETURN NULL;
    END IF;
    IF TG_LEVEL = 'STATEMENT' THEN
        IF TG_OP = 'TRUNCATE' THEN
            {insert}NULL);
        END IF;
        PERFORM pg_notify('{CHANNEL}', '');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        {insert}{new});
    END IF;
    IF TG_OP = 'DELETE' THEN
        {insert}{old});
    ELSIF TG_OP = 'UPDATE' THEN
        IF {old} <> {new} THEN
            {insert}{old});
        END IF;
    END IF;
    RETURN NULL;
END"""

    def _key(self, table: Table, row: str) -> str:
        parts = []
        for name in table.primary_key:
            column = table.columns[name].text.select.format(f"{row}.{self.quote(name)}")
            if table.columns[name].sent_as != "bytea":
                column = f"convert_to(({column})::text, 'UTF8')"
            parts.append(f"encode({column}, 'hex')")
        return " || ',' || ".join(parts)

    def _function(self, connection: Connection, name: str) -> str:
        return f"{self._schema(connection)}.gearsync_follow_{digest(name)}"

    def _schema(self, connection: Connection) -> str:
        # Within the function no search path finds it.
        schema = self._connector.schema or connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        return self.quote(str(schema))


def _settings(table: Table) -> list[str]:
    types = [table.columns[name].sent_as for name in table.primary_key]
    plain = all(type_.startswith(_PLAIN) for type_ in types)
    return [_SEARCH_PATH] if plain else [_SEARCH_PATH, _SETTINGS]


def _told(enabled: str, definer: bool, settings: int, body: str) -> str:
    return f"{enabled} {definer} {settings} {body}"
