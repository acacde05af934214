"""SQLite, with WAL and declared types taken at their word.

SQLite itself stores any text in an INTEGER column; here the converters decide before it is asked. Foreign
keys are enforced, as declared.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import re
import sqlite3
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Iterable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from connectors import reflection, wheres
from connectors.base import Connector
from connectors.errors import ConnectorError, ConversionError, Refused, SchemaMismatch, Unavailable
from connectors.reading import READS
from connectors.rows import Refusal, RowOp
from connectors.tables import Column, Convert, Table
from connectors.values import bulk, texts, times, types
from connectors.values.texts import Text
from connectors.writing.blocks import by_column

#: How many decimal digits a number keeps in SQLite, which stores it as an 8-byte float.
_DIGITS = 15

#: The most parameters of a statement that every build of SQLite takes, and the most of a statement of ours.
SURE_VARIABLES, MOST_VARIABLES = 999, 8192

_DECIMALS = re.compile(r"\s*(NUMERIC|DECIMAL)\b", re.IGNORECASE)
_DEFERRED = re.compile(r"\bINITIALLY\s+DEFERRED\b", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*\Z")

_REFUSED = (
    *("constraint failed", "datatype mismatch", "too big", "too large"),
    # Of what a table computes by itself: a generated column, an index, a trigger.
    *("malformed JSON", "bad JSON path", "JSON path error", "integer overflow"),
)
_MISMATCH = (
    *("no such table", "no such column", "has no column", "syntax error", "cannot modify", "UPSERT"),
    "number of bindings",
)


class SQLiteTraits(reflection.Traits):
    """Each float has 8 bytes and may be infinite."""

    infinity = True
    short_real = False


class SQLiteConnector(Connector):
    """The connector for ``sqlite:///`` URLs."""

    traits = SQLiteTraits
    compares_rows = True
    syntax = wheres.SQLITE

    def _engine_options(self) -> dict[str, Any]:
        # isolation_level None: the driver begins no transactions of its own.
        arguments = {"timeout": self.lock_seconds, "isolation_level": None, "check_same_thread": False}
        return {"connect_args": arguments}

    def _create_engine(self, url: sa.engine.URL) -> Engine:
        options = self._engine_options()
        engine = sa.create_engine(url, hide_parameters=True, poolclass=sa.pool.QueuePool, **options)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        sa.event.listen(engine, "commit", _before_commit)
        return engine

    def _converter(self, type_: Any) -> Convert:
        if isinstance(type_, sa.Integer):
            return types.integer(-(1 << 63), (1 << 63) - 1)
        convert = super()._converter(type_)
        if isinstance(type_, sa.JSON):
            return _checked(convert, _stays_text)
        if isinstance(type_, (sa.Numeric, sa.Boolean, sa.DateTime, sa.Date, sa.Time)):
            return _checked(convert, _as_sqlite)
        return convert

    def _text(self, type_: Any) -> Text:
        if isinstance(type_, sa.DateTime):
            return Text(encode=texts.timestamp)
        return Text(encode=texts.clock) if isinstance(type_, sa.Time) else texts.PLAIN

    def _complete(
        self, connection: Connection, reflected: reflection.Reflected, name: str, columns: dict[str, Column]
    ) -> list[str]:
        place = f"{self._quote(self.schema)}." if self.schema else ""
        source = f"SELECT sql FROM {place}sqlite_master WHERE type = 'table' AND name = ?"
        if _DEFERRED.search(str(connection.exec_driver_sql(source, (name,)).scalar())):
            raise SchemaMismatch(
                f"a foreign key of {name} is DEFERRABLE INITIALLY DEFERRED. SQLite checks it only at "
                "COMMIT, where a refused row can't be told from the others; declare it without DEFERRED"
            )
        # Without them SQLAlchemy overlooks some constraints that are declared within their column.
        indexes = sa.inspect(connection).get_indexes(name, self.schema, include_auto_indexes=True)
        unique = [tuple(str(column) for column in each["column_names"]) for each in indexes if each["unique"]]
        reflected.unique_sets = [each for each in unique if each != reflected.primary_key]
        for info in connection.exec_driver_sql(f"PRAGMA {place}table_info({self._quote(name)})"):
            column = columns[info.name]
            column.type_text = info.type
            if isinstance(column.type, sa.NUMERIC) and not _DECIMALS.match(info.type):
                # SQLAlchemy takes every type that it does not know for a number, as SQLite does.
                column.convert = _unknown(info.type)
                if _is_moment(info.type):
                    column.text = Text(encode=texts.timestamp)
        return [
            reflection.shared_rows(column, collation)
            for column, collation in self._collations(connection, name)
            if collation != "BINARY"
        ]

    def _table_names(self, connection: Connection) -> list[str]:
        names = super()._table_names(connection)
        # Before SQLite 3.37 there is no such list. Shadows are the insides of virtual tables, such as FTS5's.
        every = connection.exec_driver_sql("PRAGMA table_list").all()
        return list(set(names).difference(each.name for each in every if each.type == "shadow"))

    def _collations(self, connection: Connection, name: str) -> Iterator[tuple[str, str]]:
        """Yield the columns of the primary key, each with the collation that tells its values apart."""
        place = f"{self._quote(self.schema)}." if self.schema else ""
        for index in connection.exec_driver_sql(f"PRAGMA {place}index_list({self._quote(name)})").all():
            if index.origin == "pk":
                parts = connection.exec_driver_sql(f"PRAGMA {place}index_xinfo({self._quote(index.name)})")
                yield from ((part.name, part.coll.upper()) for part in parts.all() if part.key)

    def _default(self, column: Column) -> str:
        # SQLite has no DEFAULT in an UPDATE.
        return f"({column.default})" if column.default is not None else "NULL"

    def _upsert(
        self, connection: Connection, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]]
    ) -> None:
        names = rows[0].columns
        quoted = [self._quote(name) for name in names]
        key = ", ".join(self._quote(name) for name in table.primary_key)
        changes = [
            f"{self._quote(name)} = excluded.{self._quote(name)}"
            for name in names
            if name not in table.primary_key
        ]
        changes.extend(f"{self._quote(name)} = {expression}" for name, expression in absent)
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        head = f"INSERT INTO {self._quoted_table(table.name)} ({', '.join(quoted)}) VALUES "
        tail = f" ON CONFLICT ({key}) DO {action}"
        self._send(connection, head, by_column(rows), tail)

    @staticmethod
    def _send(connection: Connection, head: str, columns: Sequence[Sequence[Any]], tail: str) -> None:
        """Execute a statement with rows in its middle, as few times as it takes.

        One statement of many rows costs half of what many of one row do, and Python's other threads work
        meanwhile.
        """
        row = f"({','.join('?' * len(columns))})"
        most = max(1, _most_variables(connection) // len(columns))
        rows = zip(*columns)
        for count in _shares(len(columns[0]), most):
            values = tuple(chain.from_iterable(islice(rows, count)))
            connection.exec_driver_sql(f"{head}{','.join([row] * count)}{tail}", values)

    def _delete(self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
        columns = ", ".join(self._quote(name) for name in table.primary_key)
        head = f"DELETE FROM {self._quoted_table(table.name)} WHERE ({columns}) IN (VALUES "
        self._send(connection, head, list(zip(*keys)), ")")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with super()._reading() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA query_only = ON")
            # SQLite keeps any bytes as a text, also what is no UTF-8.
            driver.text_factory = bytes
            try:
                yield connection
            finally:
                driver.text_factory = str
                driver.execute("PRAGMA query_only = OFF")

    def _select(
        self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]], columns: Sequence[Column]
    ) -> Iterable[tuple[int, Sequence[Any]]]:
        wanted = "".join(f", t.{self._quote(column.name)}" for column in columns)
        # SQLite calls the columns of VALUES column1, column2, …
        match = " AND ".join(
            f"t.{self._quote(name)} = k.column{index}" for index, name in enumerate(table.primary_key, 2)
        )
        places = ", ".join("?" * len(table.primary_key))
        rows = ", ".join(f"({index}, {places})" for index in range(len(keys)))
        statement = (
            f"SELECT k.column1{wanted} FROM (VALUES {rows}) k "
            f"CROSS JOIN {self._quoted_table(table.name)} t ON {match}"
        )
        for row in connection.exec_driver_sql(statement, tuple(part for key in keys for part in key)):
            yield row[0], row[1:]

    def _explain(self, error: sa.exc.DBAPIError) -> ConnectorError:
        sentence = self._sentence(error)
        if isinstance(error, sa.exc.IntegrityError) or any(part in sentence for part in _REFUSED):
            return Refused(sentence)
        if any(part in sentence for part in _MISMATCH):
            return SchemaMismatch(sentence)
        return Unavailable(sentence)

    def _blamed(self, connection: Connection, table: Table, refusal: Refusal) -> str:
        # UNIQUE constraint failed: persons.email
        for column in table.columns:
            place = f"{table.name}.{column}"
            if refusal.reason in (
                f"NOT NULL constraint failed: {place}",
                f"UNIQUE constraint failed: {place}",
            ):
                return column
        return ""


def _most_variables(connection: Connection) -> int:
    driver: Any = connection.connection.dbapi_connection
    # From Python 3.11 on it can be asked.
    ask = getattr(driver, "getlimit", None)
    return SURE_VARIABLES if ask is None else min(ask(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), MOST_VARIABLES)


def _shares(count: int, most: int) -> list[int]:
    """Return how many rows each statement has, at most ``most``, together ``count``.

    All are powers of two: each number of rows is a statement of its own, which is parsed once and kept.
    """
    size = 1 << (most.bit_length() - 1)
    shares = [size] * (count // size)
    while size > 1:
        size //= 2
        shares += [size] if count & size else []
    return shares


def _unknown(declared: str) -> Convert:
    if declared.upper() == "UUID":
        return types.uuid_text()
    if _is_moment(declared):
        return _checked(times.timestamp(zone=False), _as_sqlite)
    return _checked(types.judged_by_database(), _stays_text)


def _is_moment(declared: str) -> bool:
    return declared.upper().startswith(("TIMESTAMP", "DATETIME"))


def _prepare(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE: a transaction that begins by reading and then writes could find its snapshot outdated.
    reads = connection.get_execution_options().get(READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
    if not reads:
        _say_own(connection, 1)


def _before_commit(connection: Connection) -> None:
    if not connection.get_execution_options().get(READS):
        _say_own(connection, 0)


def _say_own(connection: Connection, own: int) -> None:
    """Have triggers of ours leave this transaction alone; nobody else sees it (``connectors/triggers``)."""
    place = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'gearsync_own'")
    if place.first() is not None:
        connection.exec_driver_sql(f"UPDATE gearsync_own SET own = {own}")


def _checked(convert: Convert, finish: Convert) -> Convert:
    def converted(value: object) -> Any:
        return finish(convert(value))

    return bulk.with_many(converted, bulk.then(convert, finish))


def _as_sqlite(value: object) -> Any:
    """Return a value as SQLAlchemy's own types would store it, where SQLite has no such type."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, datetime.time):
        return value.isoformat("microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _number(value)
    return value


def _number(value: Decimal) -> Any:
    if value == value.to_integral_value() and abs(value) < 1 << 63:
        return int(value)
    if len(bytes(value.as_tuple().digits).strip(b"\0")) > _DIGITS:
        raise ConversionError(f"the number has more than {_DIGITS} digits, which SQLite can't keep")
    number = float(value)
    if math.isinf(number):
        raise ConversionError("the number is too large for SQLite, which keeps numbers up to 1.8e308")
    if Decimal(repr(number)) != value:
        raise ConversionError("the number is too small for SQLite to keep its digits")
    return number


def _stays_text(value: object) -> Any:
    """Return a text for a type that is a number for SQLite: a text that looks like one must survive it."""
    if isinstance(value, str) and _NUMBER.match(value):
        small = value.lstrip("-").isdigit() and len(value) < 19
        kept = str(int(value)) if small else repr(float(f"{float(value):.{_DIGITS}g}"))
        if kept != value:
            raise ConversionError("the value is a number that SQLite would write otherwise")
    return value
