"""The tables of a storm, and how they change under way.

``history`` is what shows a change that was applied twice: triggers write it. The column ``extra`` is the one
that is dropped, narrowed and put back; the history does not have it.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.engine import make_url

from tests.servers import run_sql

#: Tables of the functions; all have the same columns.
BEHIND, THROUGH, FLUSHED = "items", "accounts", "flushed"
TABLES = (BEHIND, THROUGH, FLUSHED)
FIELDS = ("version", "note", "age", "extra")
EXTRA = "extra VARCHAR(20)"

_TABLE = (
    "CREATE TABLE {} (tag VARCHAR(16), id INTEGER, version BIGINT, note VARCHAR(40), "
    f"age INTEGER CHECK (age >= 0), {EXTRA}, PRIMARY KEY (tag, id))"
)
_HISTORY = (
    "CREATE TABLE history (seq {}, place VARCHAR(16), tag VARCHAR(16), id INTEGER, version BIGINT, "
    "note VARCHAR(40), age INTEGER)"
)
_KEEP = (
    "INSERT INTO history (place, tag, id, version, note, age) "
    "VALUES ('{}', NEW.tag, NEW.id, NEW.version, NEW.note, NEW.age)"
)
_SEQUENCES = {
    "postgresql": "BIGSERIAL PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "INTEGER PRIMARY KEY",
}


def create(url: str) -> None:
    """Make the tables in an empty database."""
    dialect = make_url(url).get_backend_name()
    run_sql(url, _HISTORY.format(_SEQUENCES[dialect]))
    for table in TABLES:
        run_sql(url, _TABLE.format(table))
        for statement in _triggers(dialect, table):
            run_sql(url, statement)


def _triggers(dialect: str, table: str) -> list[str]:
    keep = _KEEP.format(table)
    if dialect == "postgresql":
        body = f"BEGIN {keep}; RETURN NULL; END"
        return [
            f"CREATE FUNCTION keep_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
            f"CREATE TRIGGER kept AFTER INSERT OR UPDATE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION keep_{table}()",
        ]
    body = f"BEGIN {keep}; END" if dialect == "sqlite" else f"FOR EACH ROW {keep}"
    return [
        f"CREATE TRIGGER kept_{table}_{event} AFTER {event} ON {table} {body}"
        for event in ("INSERT", "UPDATE")
    ]


# -- Changes under way, and back --------------------------------------------------------------------------


def drop(url: str, table: str) -> None:
    """Take the column away."""
    if has_extra(url, table):
        run_sql(url, f"ALTER TABLE {table} DROP COLUMN extra")


def narrow(url: str, table: str) -> None:
    """Have the column shorter than what is written."""
    drop(url, table)
    run_sql(url, f"ALTER TABLE {table} ADD COLUMN extra VARCHAR(2)")


def add(url: str, table: str) -> None:
    """Have one more column, of which nobody knows."""
    run_sql(url, f"ALTER TABLE {table} ADD COLUMN other INTEGER DEFAULT 5")


def demand(url: str, table: str) -> None:
    """Have one more column, without which there is no row (SQLite can't, in a table that is there)."""
    add(url, table)
    if make_url(url).get_backend_name() == "postgresql":
        run_sql(url, f"ALTER TABLE {table} ALTER other SET NOT NULL, ALTER other DROP DEFAULT")
    else:
        run_sql(url, f"ALTER TABLE {table} MODIFY other INTEGER NOT NULL")


CHANGES: dict[str, Callable[[str, str], None]] = {
    "drop": drop,
    "narrow": narrow,
    "add": add,
    "demand": demand,
}


def put_back(url: str, table: str) -> None:
    """Have the table as it was made; what was in ``extra`` is lost."""
    drop(url, table)
    run_sql(url, f"ALTER TABLE {table} ADD COLUMN {EXTRA}")
    if _has(url, table, "other"):
        run_sql(url, f"ALTER TABLE {table} DROP COLUMN other")


def has_extra(url: str, table: str) -> bool:
    return _has(url, table, "extra")


def _has(url: str, table: str, column: str) -> bool:
    if make_url(url).get_backend_name() == "sqlite":
        found = run_sql(url, f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = '{column}'")
    else:
        schema = "current_schema()" if "postgresql" in url else "DATABASE()"
        found = run_sql(
            url,
            f"SELECT 1 FROM information_schema.columns WHERE table_schema = {schema} "
            f"AND table_name = '{table}' AND column_name = '{column}'",
        )
    return bool(found)
