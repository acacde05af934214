"""MySQL and MariaDB through PyMySQL.

Rows go as one multi-row INSERT … ON DUPLICATE KEY UPDATE with literals (connectors/mysql/literals.py).
The session is strict, so that nothing is truncated, and in UTC.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection, Engine

from connectors import reflection, wheres
from connectors.base import CONNECT_SECONDS, SILENT_SECONDS, Connector
from connectors.bookkeeping.intents import TABLE_NAME as INTENTS
from connectors.children import ChildChecksums
from connectors.errors import ConnectorError, Refused, SchemaMismatch, TargetError, Unavailable
from connectors.mysql.checksums import MySQLChecksums, of_children, of_table
from connectors.mysql.literals import parts, row_texts
from connectors.mysql.mariadb_groups import NOT_MOVED, compound
from connectors.mysql.texts import text_of
from connectors.rows import Claim, Group, Position, Refusal, RowOp
from connectors.tables import Column, Convert, Table
from connectors.values import times, types
from connectors.values.texts import Text
from connectors.writing.blocks import by_column, keys_of

# NO_AUTO_VALUE_ON_ZERO: the key 0 is 0, not the next number. Backslashes escape, which the literals rely on.
_SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_AUTO_VALUE_ON_ZERO"
)

#: What no column for whole numbers takes, and the numbers of the errors that say so, or that it is NULL.
_NO_INTEGER = "99999999999999999999"
_OF_GUARD = {1048, 1264}

#: How many rows one statement of many deletes, when a table is cleared.
CLEARED_ROWS = 10_000

#: What a text is told that has characters which a column's character set lacks, when both are compared.
_COLLATIONS = {1267, 1270, 1271}

#: Error numbers by what they mean; what is in neither is judged by its class in the DB-API.
_REFUSED = {
    *(1048, 1062, 1169, 1216, 1217, 1264, 1265, 1292, 1300, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1426),
    *(1441, 1451, 1452, 1526, 1557, 1586, 1644, 1690, 1748, 1761, 1762, 3140, 3141, 3143, 3144, 3146, 3156),
    *(1118, 1022, 3819, 4025, 3903, 1713, 1139),
    # JSON that is too large, has too long a name, or is nested too deeply.
    *(3150, 3151, 3155, 3157, 3158),
    # Of a trigger, which a row leads to where it has nothing, or too much, to choose from.
    *(1172, 1329),
    *_COLLATIONS,
}
_MISMATCH = {
    *(1044, 1045, 1049, 1051, 1054, 1064, 1100, 1109, 1136, 1142, 1143, 1146, 1227, 1288, 1305),
    *(1347, 1348, 1356, 1370, 1419, 1449, 1906, 3105),
}
_UNAVAILABLE = {
    1021,
    1030,
    1040,
    1114,
    1203,
    1205,
    1206,
    1213,
    1226,
    1290,
    1836,
    2002,
    2003,
    2006,
    2013,
    3572,
}

#: Classes of SQLSTATEs that judge values. Those beside the standard's, and 45, are of somebody's SIGNAL.
_REFUSED_CLASSES = {"20", "21", "22", "23", "44"}
_OWN_CLASSES = re.compile(r"45|(?!70|XA)[5-9I-Z]")

#: Servers that were demoted, or cut off, but keep their connections: new ones may lead to their successor.
_DEMOTED = {1047, 1290, 1792, 1836}

#: How messages name a column: at their start, or at their end.
_STARTS = ("Column '{column}' ", "Field '{column}' ", "CONSTRAINT {constraint} failed ")
_ENDS = (" column '{column}'", " column {full}", " column '{table}.{column}'.", " column '{table}.{column}'")
_AT_ROW = re.compile(r" at row \d+$")
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED = re.compile(r"''|\\(.)", re.DOTALL)
_BITS = (
    (mysql.TINYINT, 8),
    (sa.SmallInteger, 16),
    (mysql.MEDIUMINT, 24),
    (sa.BigInteger, 64),
    (sa.Integer, 32),
)

_COLUMNS_QUERY = """
SELECT column_name, column_type, is_nullable, column_default, extra, collation_name, character_octet_length
FROM information_schema.columns WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s
"""
# MariaDB's JSON is a LONGTEXT with this constraint, which has the column's name.
_JSON_QUERY = """
SELECT constraint_name FROM information_schema.check_constraints
WHERE constraint_schema = COALESCE(%s, DATABASE()) AND table_name = %s AND check_clause LIKE 'json_valid(%%'
"""
_ENGINE_QUERY = """
SELECT t.engine, e.transactions FROM information_schema.tables t
JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(%s, DATABASE()) AND t.table_name = %s
"""


class MySQLTraits(reflection.Traits):
    """A time has no fraction of a second unless its type says so."""

    second_digits = 0


class MySQLConnector(Connector):
    """The connector for ``mysql+pymysql://`` URLs, of MySQL and of MariaDB."""

    traits = MySQLTraits
    syntax = wheres.MYSQL
    random_number = "RAND()"
    # As numbers: a column with ZEROFILL would be written with its zeros, and a BIT as bytes.
    joined = "GROUP_CONCAT(s.k + 0 ORDER BY s.k SEPARATOR ',')"

    def __init__(self, url: URL, schema: str | None = None, **options: Any) -> None:
        if url.get_driver_name() != "pymysql":
            raise TargetError(
                "gearsync reaches MySQL and MariaDB by PyMySQL: write mysql:// or mysql+pymysql://"
            )
        super().__init__(url, schema, **options)
        self._packet = 0
        self._is_mariadb = False

    def _engine_options(self) -> dict[str, Any]:
        seconds = max(1, int(self.lock_seconds))
        session = (
            f"SET SESSION sql_mode = '{_SQL_MODE}', time_zone = '+00:00', foreign_key_checks = 1, "
            f"innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}, "
            # For MariaDB alone: MySQL has no such variable.
            f"/*M! max_statement_time = {self.statement_seconds:g}, */ "
            # Texts of many rows are one, of which a checksum is made.
            f"group_concat_max_len = 4294967295, "
            # Triggers of ours leave alone what has this variable.
            f"wait_timeout = {SILENT_SECONDS * 2}, @gearsync_own = 1"
        )
        return {
            "isolation_level": "READ COMMITTED",
            "connect_args": {
                "charset": "utf8mb4",
                "init_command": session,
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": SILENT_SECONDS,
                "write_timeout": SILENT_SECONDS,
            },
        }

    def _create_engine(self, url: URL) -> Engine:
        engine = super()._create_engine(url)
        # The server may be another one, which takes less at once.
        sa.event.listen(engine, "connect", self._forget_packet)
        return engine

    def _forget_packet(self, connection: Any, record: Any) -> None:
        self._packet = 0

    def _is_demoted(self, error: BaseException) -> bool:
        return bool(error.args) and error.args[0] in _DEMOTED

    def _converter(self, type_: Any) -> Convert:
        if isinstance(type_, mysql.SET):
            return types.choices(type_.values)
        if isinstance(type_, mysql.BIT):
            bits = type_.length or 1
            return types.integer(0, (1 << bits) - 1, booleans=bits == 1)
        if isinstance(type_, mysql.YEAR):
            return types.integer(1901, 2155)
        if isinstance(type_, sa.Integer):
            return _integer(type_)
        if isinstance(type_, mysql.TIME):
            return times.duration(type_.fsp or 0)
        if isinstance(type_, sa.Float) and type_.scale is not None:
            return types.fixed(type_.precision or type_.scale, type_.scale, isinstance(type_, mysql.FLOAT))
        if isinstance(type_, mysql.FLOAT) and (type_.precision or 0) <= 24:
            return types.real(types.SINGLE)
        return super()._converter(type_)

    def _text(self, type_: Any) -> Text:
        return text_of(type_)

    def _complete(
        self, connection: Connection, reflected: reflection.Reflected, name: str, columns: dict[str, Column]
    ) -> list[str]:
        place = (self.schema, name)
        for engine, transactions in connection.exec_driver_sql(_ENGINE_QUERY, place):
            if transactions != "YES":
                raise SchemaMismatch(
                    f"the table {name} is in the engine {engine}, which has no transactions: rows and "
                    f"checkpoint could part; ALTER TABLE {name} ENGINE = InnoDB"
                )
        notes = []
        for info in connection.exec_driver_sql(_COLUMNS_QUERY, place):
            column, type_text, nullable, default, extra, collation, octets = info
            if column not in columns:
                raise SchemaMismatch(f"the column {column} of {name} can't be read; rename it")
            _complete_column(columns[column], type_text, nullable, default, extra, collation, octets)
            # Of ENUM and SET only what is written as their labels is taken.
            is_exact = not collation or collation.endswith(("_bin", "_cs"))
            if columns[column].primary_key and not is_exact and not type_text.startswith(("enum(", "set(")):
                notes.append(reflection.shared_rows(column, collation))
        if getattr(connection.dialect, "is_mariadb", False):
            for (column,) in connection.exec_driver_sql(_JSON_QUERY, place):
                if column in columns and columns[column].type_text == "longtext":
                    columns[column].convert = types.json_text()
                    columns[column].type_text = "json"
        else:
            for each in columns.values():
                if each.type_text == "json":
                    each.convert = types.json_text(is_binary=True)
        return notes

    @staticmethod
    def _true_name(name: str) -> str:
        # SQLAlchemy reads SHOW CREATE TABLE, and leaves names as they are quoted there.
        return name.replace("``", "`")

    def _quote(self, name: str) -> str:
        # SQLAlchemy doubles percent signs for statements with parameters; ours have none.
        return super()._quote(name).replace("%%", "%")

    def _upsert(
        self, connection: Connection, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]]
    ) -> None:
        head, tail = self._upsert_around(table, rows, absent)
        try:
            self._send(connection, head, row_texts(by_column(rows)), tail)
        except sa.exc.DBAPIError as error:
            raise self._of_guard(table, error) or self._explain(error) from error.orig

    def _upsert_around(
        self, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]]
    ) -> tuple[str, str]:
        """Return what stands before and behind the rows in the statement that writes them."""
        names = rows[0].columns
        quoted = [self._quote(name) for name in names]
        changes = [
            f"{column} = VALUES({column})"
            for name, column in zip(names, quoted)
            if name not in table.primary_key
        ]
        changes.extend(f"{self._quote(name)} = {expression}" for name, expression in absent)
        changes.insert(0, self._guard(table))
        head = f"INSERT INTO {self._quoted_table(table.name)} ({', '.join(quoted)}) VALUES "
        tail = f" ON DUPLICATE KEY UPDATE {', '.join(changes)}"
        return head, tail

    def _of_guard(self, table: Table, error: sa.exc.DBAPIError) -> Refused | None:
        """Return what it means that the guard failed: keys are never NULL, nor too large, otherwise."""
        number, said = ("", "") if error.orig is None or len(error.orig.args) < 2 else error.orig.args[:2]
        named = self._column_in(table, _AT_ROW.sub("", str(said)))
        if number not in _OF_GUARD or named != table.primary_key[0]:
            return None
        if not table.unique_sets:
            return Refused("another row has the same value where an index takes each value once")
        taken = " or ".join(f"({', '.join(columns)})" for columns in table.unique_sets)
        column = table.unique_sets[0][0] if len(table.unique_sets) == 1 == len(table.unique_sets[0]) else ""
        return Refused(f"another row has the same {taken}, which must be unique", column)

    def _delete(self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
        try:
            self._send(connection, self._delete_head(table), row_texts(list(zip(*keys))), ")")
        except sa.exc.DBAPIError as error:
            if not _of_collations(error):
                raise
            if len(keys) > 1:
                half = len(keys) // 2
                self._delete(connection, table, keys[:half])
                self._delete(connection, table, keys[half:])
            elif self._may_be_there(connection, table, keys):
                raise

    def _may_be_there(self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> bool:
        """Whether keys are such that rows can have them, and it was something else that was refused."""
        try:
            self._found(connection, table, keys, ())
        except sa.exc.DBAPIError as error:
            if _of_collations(error):
                return False
            raise
        return True

    def _delete_head(self, table: Table) -> str:
        columns = ", ".join(self._quote(name) for name in table.primary_key)
        return f"DELETE FROM {self._quoted_table(table.name)} WHERE ({columns}) IN ("

    def _clear(self, connection: Connection, table: Table) -> None:
        # A part at a time: no answer may take longer than SILENT_SECONDS.
        statement = f"DELETE FROM {self._quoted_table(table.name)} LIMIT {CLEARED_ROWS}"
        plain = {"no_parameters": True}
        while connection.exec_driver_sql(statement, execution_options=plain).rowcount == CLEARED_ROWS:
            continue

    def _send_at_once(
        self, claim: Claim, position: Position, found: Sequence[Group], kept: Mapping[str, Any] | None
    ) -> bool:
        if kept is None:
            # The text of a batch is long, and a compound statement is read twice.
            return False
        self._know()
        if not self._is_mariadb:
            return False
        statements = [self._text_of(group) for group in found]
        prefix = f"{self._quote(self.schema)}." if self.schema else ""
        values = row_texts([(value,) for value in kept.values()])[0]
        statements.append(f"INSERT INTO {prefix}{INTENTS} ({', '.join(kept)}) VALUES {values}")
        text = compound(prefix, claim, position, sum(len(group.rows) for group in found), statements)
        if len(text) * 4 >= self._packet:
            return False
        try:
            with self._single(is_lasting=True) as connection, connection.cursor() as cursor:
                cursor.execute(text)
        except Unavailable as error:
            if NOT_MOVED in str(error):
                return False
            raise
        return True

    def most_record(self) -> int:
        self._know()
        # The driver sends bytes as two hexadecimal digits each; some more are the statement's.
        return (self._packet - 4096) // 2

    def _know(self) -> None:
        """Ask what the server is and takes, unless that is known."""
        if not self._packet:
            with self._transaction() as connection:
                self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        """Ask what the server is and takes."""
        self._packet = int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())
        self._is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))

    def _text_of(self, group: Group) -> str:
        table = self.table(group.table)
        if group.kind == "delete":
            return self._delete_head(table) + ",".join(row_texts(list(zip(*keys_of(group.rows))))) + ")"
        head, tail = self._upsert_around(table, group.rows, self._absent(table, group))
        return head + ",".join(row_texts(by_column(group.rows))) + tail

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with super()._reading() as connection:
            connection.exec_driver_sql("START TRANSACTION READ ONLY")
            yield connection

    def _found(
        self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]], columns: Sequence[Column]
    ) -> Sequence[Sequence[Any]]:
        wanted = ", ".join(column.text.select.format(self._quote(column.name)) for column in columns)
        key = ", ".join(self._quote(name) for name in table.primary_key)
        head = f"SELECT {wanted or 1} FROM {self._quoted_table(table.name)} WHERE ({key}) IN ("
        rows: list[Sequence[Any]] = []
        for result in self._send(connection, head, row_texts(list(zip(*keys))), ")"):
            rows.extend(result)
        return rows

    def _in_order(self, column: Column, name: str, value: Any) -> Any:
        if column.type_text.startswith("enum("):
            # Compared with a text it is one; by a number it is in its own order.
            labels = _labels(column.type_text)
            # What was no label is the empty text, before all others.
            value = labels.index(value) + 1 if value in labels else 0
        elif column.type_text.startswith("set("):
            labels = _labels(column.type_text)
            value = sum(1 << labels.index(each) for each in value.split(",") if value)
        return super()._in_order(column, name, value)

    def as_stored(self, column: Column, value: Any) -> bytes | None:
        # Of MariaDB's addresses, which it writes its own way.
        if column.type_text not in ("inet6", "inet4"):
            return None
        with self.transaction(reads=True) as connection:
            query = f"SELECT CAST(%s AS {column.type_text})"
            written = connection.exec_driver_sql(query, (value,)).scalar_one()
        return None if written is None else column.text.encode(written)

    def checksums(self, name: str, columns: Sequence[str]) -> MySQLChecksums | None:
        table = self.table(name)
        return of_table(self, self._checksum, table, [table.columns[column] for column in columns])

    def child_checksums(self, name: str, parents: Sequence[str], columns: Sequence[str]) -> ChildChecksums:
        return of_children(self, self._checksum, self.table(name), parents, columns)

    def _checksum(self, head: str, keys: Sequence[tuple[Any, ...]]) -> str:
        """Return the checksum that a statement makes of the rows of ``keys``, which stand behind ``head``."""
        with self._reading() as connection:
            made = self._send(connection, head, row_texts(list(zip(*keys))), ")")
            # More than one: the keys were too many for one statement.
            return "".join(str(each.scalar()) for each in made)

    def _guard(self, table: Table) -> str:
        """Return an assignment that fails when the row that exists is not that of the primary key.

        ON DUPLICATE KEY UPDATE fires on every unique index, and would overwrite somebody else's row. An index
        may have come after the table was read, and that of the primary key may have just the first characters
        of a column.
        """
        columns = [self._quote(name) for name in table.primary_key]
        same = " AND ".join(f"{column} = VALUES({column})" for column in columns)
        # A column with AUTO_INCREMENT takes NULL.
        is_whole = isinstance(table.columns[table.primary_key[0]].type, sa.Integer)
        return f"{columns[0]} = IF({same}, {columns[0]}, {_NO_INTEGER if is_whole else 'NULL'})"

    def _send(
        self, connection: Connection, head: str, texts: list[str], tail: str
    ) -> list[sa.CursorResult[Any]]:
        if not self._packet:
            self._ask(connection)
        # Some bytes stay free for the protocol.
        room = self._packet - len((head + tail).encode()) - 1024
        # As it is: a percent sign in it is no placeholder.
        plain = {"no_parameters": True}
        return [
            connection.exec_driver_sql(head + part + tail, execution_options=plain)
            for part in parts(texts, room)
        ]

    def _explain(self, error: sa.exc.DBAPIError) -> ConnectorError:
        arguments = error.orig.args if error.orig is not None else ()
        number = arguments[0] if arguments else 0
        sentence = _AT_ROW.sub("", self._sentence(error, str(arguments[-1]) if arguments else ""))
        # Not every version of PyMySQL tells it.
        state = getattr(error.orig, "sqlstate", None) or ""
        # Without a statement: the connection was refused, which is retried until somebody acts.
        if error.statement is None or error.connection_invalidated:
            return Unavailable(sentence or "the connection is lost")
        if _OWN_CLASSES.match(state):
            # With a number of their own too, which may be one of the server's.
            return Refused(sentence)
        if number in _UNAVAILABLE:
            return Unavailable(sentence)
        if number in _MISMATCH:
            return SchemaMismatch(sentence)
        if number in _REFUSED or state[:2] in _REFUSED_CLASSES:
            return Refused(sentence)
        if isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError)):
            return Refused(sentence)
        return Unavailable(sentence or "the connection is lost")

    def _blamed(self, connection: Connection, table: Table, refusal: Refusal) -> str:
        return self._column_in(table, refusal.reason)

    def _column_in(self, table: Table, reason: str) -> str:
        """Return the column that a reason names; else ""."""
        # A name may hold anything, as may the value that stands before it in the message.
        for column in table.columns:
            names = {
                "column": column,
                "table": table.name,
                "constraint": self._quote(f"{table.name}.{column}"),
                "full": f"`{self.schema or self._engine.url.database}`.`{table.name}`.`{column}`",
            }
            if reason.startswith(tuple(form.format(**names) for form in _STARTS)):
                return column
            if reason.endswith(tuple(form.format(**names) for form in _ENDS)):
                return column
        return ""


def _of_collations(error: sa.exc.DBAPIError) -> bool:
    return error.orig is not None and bool(_COLLATIONS.intersection(error.orig.args[:1]))


def _integer(type_: Any) -> Convert:
    bits = next(bits for kind, bits in _BITS if isinstance(type_, kind))
    booleans = isinstance(type_, mysql.TINYINT) and type_.display_width == 1
    if getattr(type_, "unsigned", False):
        return types.integer(0, (1 << bits) - 1, booleans)
    return types.integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, booleans)


def _complete_column(
    column: Column,
    type_text: str,
    nullable: str,
    default: str | None,
    extra: str,
    collation: str | None,
    octets: int | None,
) -> None:
    column.type_text = type_text
    column.nullable = nullable == "YES"
    makes_own = "auto_increment" in extra.lower() or "generated" in extra.lower()
    # MariaDB writes the default NULL as a text.
    column.has_default = makes_own or (default is not None and default != "NULL")
    kind = type_text.partition("(")[0].partition(" ")[0]
    if kind in ("tinytext", "text", "mediumtext", "longtext"):
        # In another character set the server counts other bytes; it is strict, and judges itself.
        column.convert = types.text(byte_limit=octets if (collation or "").startswith("utf8") else None)
    elif kind in ("tinyblob", "blob", "mediumblob", "longblob"):
        column.convert = types.binary(octets)
    elif kind == "binary":
        column.convert = types.binary(exact=octets)
    elif kind == "enum":
        column.convert = types.choice(_labels(type_text))
    elif kind == "set":
        column.convert = types.choices(_labels(type_text))


def _labels(type_text: str) -> list[str]:
    """Return the labels of an ENUM or SET; SQLAlchemy leaves backslashes as they are escaped."""
    escapes = {"0": "\0", "n": "\n", "r": "\r"}

    def plain(found: re.Match[str]) -> str:
        return "'" if found.group(1) is None else escapes.get(found.group(1), found.group(1))

    return [_ESCAPED.sub(plain, label) for label in _LABEL.findall(type_text)]
