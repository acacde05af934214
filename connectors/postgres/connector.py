"""PostgreSQL through psycopg 3.

Rows go as one array a column, written here as PostgreSQL's own array text and taken apart by unnest() in the
server: one statement whatever the number of rows, as fast as COPY into a temporary table, and without one.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Connection

from connectors import reflection, wheres
from connectors.base import CONNECT_SECONDS, SILENT_SECONDS, Connector
from connectors.children import ChildChecksums
from connectors.errors import (
    ConnectorError,
    ConversionError,
    Refused,
    SchemaMismatch,
    TargetError,
    Unavailable,
)
from connectors.postgres.checksums import PostgresChecksums, of_children
from connectors.postgres.inside import inside_of, limited
from connectors.postgres.statements import CONDITION, Part, Statements, parameters_of, text_of
from connectors.postgres.texts import as_stored
from connectors.rows import Claim, Group, Position, Refusal, RowOp
from connectors.tables import Column, Convert, Table
from connectors.values import texts, types
from connectors.values.texts import Text
from connectors.writing.blocks import by_column, keys_of

#: What the first two characters of an SQLSTATE mean. Classes that are not here may pass: Unavailable.
_REFUSED_CLASSES = {"09", "20", "21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0"}
_MISMATCH_CLASSES = {"0A", "26", "2B", "34", "3F", "42"}
#: All others of PostgreSQL. What is in none of the three was made up by a function that refuses.
_PASSING_CLASSES = {
    *("00", "01", "02", "03", "08", "0B", "0F", "0L", "0P", "0Z", "10", "24", "25", "28", "2D", "3B", "3D"),
    *("40", "53", "55", "57", "58", "72", "F0", "HV", "XX"),
}
_REFUSED_CODES = {"22P05"}
_MISMATCH_CODES = {"55000"}
_READ_ONLY, _NO_RIGHT, _SYNTAX = "25006", "42501", "42601"

#: How many parts a statement has. A table has at most 1600 columns, and a statement 65535 parameters; and the
#: server keeps the plans of rows of ever new shapes, 100 kB and more for each part.
MOST_PARTS = 16
#: How large the rows of one statement may be, where PostgreSQL takes messages up to 1 GB.
MOST_BYTES = 256 << 20
#: How many statements are remembered: rows of many shapes make ever new ones.
MOST_TEXTS = 100

# Stands for NULL while a column is one text; no text can hold it, for it has no UTF-8.
_NULL = "\udc00"

_YEAR = re.compile(r"[0-9-]+ [0-9:.]+(?= BC\Z|\Z)")
_ROUNDED = "numbers or times of limited precision in an array or a composite type would be rounded"
_LONG_FRACTION = re.compile(r"[.,][0-9]{6}0*[1-9]")

# "unnamed portal parameter $2", in whatever language; not what functions say, which quote their statement.
_PARAMETER = re.compile(r'[^"$]*\$([0-9]+)')

_AS_TEXT = "CAST({} AS text)"

_TYPES_QUERY = """
SELECT attname, format_type(atttypid, atttypmod), (
    SELECT c.collname FROM pg_collation c
    WHERE c.oid = attcollation AND to_json(c) ->> 'collisdeterministic' = 'false'
) FROM pg_attribute
WHERE attrelid = CAST(CAST(%s AS text) AS regclass) AND attnum > 0 AND NOT attisdropped
"""
_DEFERRABLE_QUERY = """
SELECT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = CAST(CAST(%s AS text) AS regclass) AND contype = 'p' AND condeferrable
)
"""
# Rows come into a partition by its table.
_PARTITIONS_QUERY = """
SELECT relname FROM pg_class
WHERE relispartition AND relnamespace = CAST(
    quote_ident(COALESCE(CAST(%s AS text), current_schema())) AS regnamespace
)
"""


class PostgresTraits(reflection.Traits):
    """Texts hold no NUL; floats may be NaN and infinite."""

    nul = False
    nan = True
    infinity = True


class PostgresConnector(Connector):
    """The connector for ``postgresql+psycopg://`` URLs."""

    traits = PostgresTraits
    compares_rows = True
    # BEGIN itself says it, which saves a round trip.
    reads: ClassVar[dict[str, Any]] = {**Connector.reads, "postgresql_readonly": True}
    syntax = wheres.POSTGRES
    joined = "string_agg(CAST(s.k AS text), ',' ORDER BY s.k)"

    def __init__(self, url: URL, schema: str | None = None, **options: Any) -> None:
        if url.get_driver_name() != "psycopg":
            raise TargetError(
                "gearsync reaches PostgreSQL by psycopg: write postgresql:// or postgresql+psycopg://"
            )
        super().__init__(url, schema, **options)
        self._statements = Statements()
        self._texts_at_once: dict[Any, str] = {}

    def _engine_options(self) -> dict[str, Any]:
        settings = {
            "lock_timeout": int(self.lock_seconds * 1000),
            "statement_timeout": int(self.statement_seconds * 1000),
            "idle_in_transaction_session_timeout": SILENT_SECONDS * 1000,
            # How values are written that are read back.
            "DateStyle": "ISO",
            "IntervalStyle": "postgres",
            "extra_float_digits": 1,
            # How they are read: NULL in an array, and the point in an amount of money.
            "array_nulls": "on",
            "lc_monetary": "C",
            # Triggers of ours leave alone what has this setting.
            "gearsync.own": 1,
        }
        return {
            "isolation_level": "READ COMMITTED",
            "connect_args": {
                "connect_timeout": CONNECT_SECONDS,
                "tcp_user_timeout": SILENT_SECONDS * 1000,
                "keepalives_idle": 30,
                "application_name": "gearsync",
                # By the database's own, what that lacks would fail here, and not as a refused row; and texts
                # of SQL_ASCII, which is none, would come as bytes.
                "client_encoding": "utf8",
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
                # A pooler between us and the server could give the next transaction another session.
                "prepare_threshold": None,
            },
        }

    def _converter(self, type_: Any) -> Convert:
        if isinstance(type_, postgresql.DOMAIN):
            return self._converter(type_.data_type)
        if isinstance(type_, postgresql.ARRAY):
            return types.judged_by_database(nul=False)
        if isinstance(type_, postgresql.INTERVAL):
            if type_.precision is not None or type_.fields is not None:
                return types.refused("an interval of limited precision would be rounded; declare it without")
            return _interval()
        if isinstance(type_, postgresql.MONEY):
            return types.numeric(17, 2)
        if isinstance(type_, postgresql.BIT):
            return types.judged_by_database(nul=False)
        return super()._converter(type_)

    def _text(self, type_: Any) -> Text:
        if isinstance(type_, postgresql.DOMAIN):
            return self._text(type_.data_type)
        if isinstance(type_, postgresql.BYTEA):
            return texts.PLAIN
        if isinstance(type_, sa.Boolean):
            return Text(_AS_TEXT, texts.truth)
        if isinstance(type_, postgresql.MONEY):
            return Text("CAST(CAST({} AS numeric) AS text)")
        if isinstance(type_, postgresql.INET):
            # A cast would add /32, and so name another key.
            return Text("abbrev({})")
        if isinstance(type_, sa.DateTime):
            in_utc = Text("CAST({} AT TIME ZONE 'UTC' AS text)", texts.utc)
            return in_utc if type_.timezone else Text(_AS_TEXT, texts.timestamp)
        if isinstance(type_, sa.Time):
            return Text(_AS_TEXT, texts.clock)
        return Text(_AS_TEXT)

    def _complete(
        self, connection: Connection, reflected: reflection.Reflected, name: str, columns: dict[str, Column]
    ) -> list[str]:
        # Outside of a statement with parameters a percent sign is not doubled.
        place = self._quoted_table(name).replace("%%", "%")
        if connection.exec_driver_sql(_DEFERRABLE_QUERY, (place,)).scalar_one():
            reflected.unwritable = (
                f"the primary key of {name} is DEFERRABLE, and PostgreSQL's ON CONFLICT takes no such key"
            )
        types_inside = inside_of(connection, place)
        notes = []
        for name_of_column, full, collation in connection.exec_driver_sql(_TYPES_QUERY, (place,)):
            column, inside = columns[name_of_column], types_inside[name_of_column]
            if isinstance(column.type, postgresql.DOMAIN):
                type_ = limited(column.type, inside.full)
                column.convert, column.text = self._converter(type_), self._text(type_)
            if inside.rounds:
                column.convert = types.refused(_ROUNDED)
            column.type_text, column.sent_as = full, inside.base
            column.type = inside.base if inside.has_arrays else None
            if inside.full == '"char"':
                column.convert = types.text(byte_limit=1, nul=False)
            if inside.full == "name":
                column.convert = types.text(byte_limit=63, nul=False)
            loose = "of citext" if inside.base.endswith("citext") else collation
            if column.primary_key and loose:
                notes.append(reflection.shared_rows(column.name, loose))
        return notes

    def _table_names(self, connection: Connection) -> list[str]:
        names = super()._table_names(connection)
        parts = connection.exec_driver_sql(_PARTITIONS_QUERY, (self.schema,)).scalars()
        return list(set(names).difference(parts))

    def _upsert(
        self, connection: Connection, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]]
    ) -> None:
        statement, arrays = self._upsert_of(table, rows, absent)
        if sum(map(len, arrays)) > MOST_BYTES and len(rows) > 1:
            del statement, arrays
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                self._upsert(connection, table, part, absent)
            return
        self._send(connection, statement, arrays, rows[0].columns)

    def _upsert_of(
        self, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]], condition: str = ""
    ) -> tuple[str, tuple[str, ...]]:
        """Return the statement, which writes nothing unless ``condition`` holds, and its parameters."""
        names = rows[0].columns
        source, arrays = self._source(table, names, by_column(rows))
        key = ", ".join(self._quote(name) for name in table.primary_key)
        changes = [
            f"{self._quote(name)} = EXCLUDED.{self._quote(name)}"
            for name in names
            if name not in table.primary_key
        ]
        changes.extend(f"{self._quote(name)} = {expression}" for name, expression in absent)
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        statement = (
            f"INSERT INTO {self._quoted_table(table.name)} ({', '.join(map(self._quote, names))}) "
            f"OVERRIDING SYSTEM VALUE {source} {condition} ON CONFLICT ({key}) DO {action}"
        )
        return statement, arrays

    def _delete(self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
        statement, arrays = self._delete_of(table, keys)
        self._send(connection, statement, arrays, table.primary_key)

    def _delete_of(
        self, table: Table, keys: Sequence[tuple[Any, ...]], condition: str = ""
    ) -> tuple[str, tuple[str, ...]]:
        source, arrays = self._source(table, table.primary_key, list(zip(*keys)))
        match = " AND ".join(
            f"t.{self._quote(name)} = k.c{index}" for index, name in enumerate(table.primary_key)
        )
        place = self._quoted_table(table.name)
        return f"DELETE FROM {place} t USING ({source} {condition}) k WHERE {match}", arrays

    def forget_tables(self) -> None:
        super().forget_tables()
        self._texts_at_once.clear()

    def _send_at_once(
        self, claim: Claim, position: Position, found: Sequence[Group], kept: Mapping[str, Any] | None
    ) -> bool:
        if len(found) > MOST_PARTS:
            return False
        # PostgreSQL does what nothing else asks for from the last part to the first.
        found = found[::-1]
        keeps = kept is not None
        shape = (keeps, *(group[:5] for group in found))
        text = self._texts_at_once.get(shape)
        if text is None:
            if len(self._texts_at_once) >= MOST_TEXTS:
                self._texts_at_once.clear()
            prefix = f"{self._quote(self.schema)}." if self.schema else ""
            text = text_of(prefix, [self._part(group) for group in found], keeps)
            self._texts_at_once[shape] = text
        # A batch of many rows waits for no connection, and leaves it to who needs one in between.
        with self._single(is_lasting=keeps) as connection:
            columns = [column for group in found for column in _columns(group)]
            # The connection's encoding, whatever the database's is.
            arrays = [array_text(column).encode() for column in columns]
            if sum(map(len, arrays)) > MOST_BYTES:
                return False
            rows = sum(len(group.rows) for group in found)
            parameters = parameters_of(claim, position, rows, kept, arrays)
            return self._statements.run(connection, text, parameters) > 0

    def _part(self, group: Group) -> Part:
        table = self.table(group.table)
        if group.kind == "delete":
            statement, arrays = self._delete_of(table, keys_of(group.rows), CONDITION)
        else:
            statement, arrays = self._upsert_of(table, group.rows, self._absent(table, group), CONDITION)
        return statement, len(arrays)

    def _select(
        self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]], columns: Sequence[Column]
    ) -> Iterable[tuple[int, Sequence[Any]]]:
        source, arrays = self._source(table, table.primary_key, list(zip(*keys)), numbered=True)
        names = [f"t.{self._quote(column.name)}" for column in columns]
        wanted = ", ".join(column.text.select.format(name) for column, name in zip(columns, names))
        match = " AND ".join(
            f"t.{self._quote(name)} = k.c{index}" for index, name in enumerate(table.primary_key)
        )
        statement = (
            f"SELECT k.n - 1, {wanted or 'NULL'} FROM ({source}) k "
            f"JOIN {self._quoted_table(table.name)} t ON {match}"
        )
        for row in self._send(connection, statement, arrays, table.primary_key):
            yield row[0], row[1:]

    def _found(
        self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]], columns: Sequence[Column]
    ) -> Sequence[Sequence[Any]]:
        return [row for _, row in self._select(connection, table, keys, columns)]

    def _in_order(self, column: Column, name: str, value: Any) -> Any:
        found = super()._in_order(column, name, value)
        # The driver says what a number is: a real would be compared as a double, money not at all.
        type_ = {"real": sa.REAL(), "money": postgresql.MONEY()}.get(column.sent_as)
        return found if type_ is None else sa.cast(found, type_)

    def key_part(self, column: Column, text: bytes) -> Any:
        part = super().key_part(column, text)
        if column.text.encode is not texts.utc or not isinstance(part, str):
            return part
        # Of a year that Python lacks the text has no zone, and would be one of the session's.
        return _YEAR.sub(r"\g<0>+00", part)

    def key_text(self, column: Column, written: bytes) -> bytes:
        # The trigger writes what reading selects.
        return column.text.encode(written if column.sent_as == "bytea" else written.decode())

    def as_stored(self, column: Column, value: Any) -> bytes | None:
        return as_stored(self, column, _element(value))

    def checksums(self, name: str, columns: Sequence[str]) -> PostgresChecksums:
        return PostgresChecksums(self, self._checksum, self.table(name), columns)

    def child_checksums(self, name: str, parents: Sequence[str], columns: Sequence[str]) -> ChildChecksums:
        return of_children(self, self._checksum, self.table(name), parents, columns)

    def _checksum(self, head: str, table: Table, keys: Sequence[tuple[Any, ...]], tail: str) -> str:
        """Return the checksum that a statement makes of the rows of ``keys``, a SELECT in its middle."""
        source, arrays = self._source(table, table.primary_key, list(zip(*keys)), numbered=True)
        with self._reading() as connection:
            return str(self._send(connection, head + source + tail, arrays, table.primary_key).scalar())

    def _send(
        self, connection: Connection, statement: str, arrays: tuple[str, ...], names: Sequence[str]
    ) -> sa.CursorResult[Any]:
        """Execute a statement whose parameters are the arrays of the columns ``names``."""
        try:
            return connection.exec_driver_sql(statement, arrays)
        except sa.exc.DBAPIError as error:
            explained = self._explain(error)
            if isinstance(explained, Refused) and not explained.column:
                number = _parameter(getattr(error.orig, "diag", None))
                if 0 < number <= len(names):
                    explained.column = names[number - 1]
            raise explained from error.orig

    def _blamed(self, connection: Connection, table: Table, refusal: Refusal) -> str:
        row = refusal.row
        for name, value in zip(row.columns, row.values):
            column = table.columns[name]
            if not column.type_text.startswith(column.type or "\0") and value is not None:
                # What is cast in the statement, or becomes one of a domain: the error does not tell of which.
                statement = f"SELECT CAST(CAST(%s AS text) AS {_percent(column.type_text)})"
                try:
                    with self._translated(), connection.begin_nested():
                        connection.exec_driver_sql(statement, (_element(value),))
                except Refused:
                    return name
        return ""

    def _settle(self, connection: Connection) -> None:
        # Two statements in one message, which goes without parameters only.
        both = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"
        connection.exec_driver_sql(both, execution_options={"no_parameters": True})

    def _source(
        self, table: Table, names: Sequence[str], columns: Sequence[Sequence[Any]], numbered: bool = False
    ) -> tuple[str, tuple[str, ...]]:
        """Return a SELECT of rows, its columns named c0, c1, …, and its parameters. ``columns``: the values
        of each. ``numbered``: at the end stands the row's number, n, from 1 on.
        """
        of_table = [table.columns[name] for name in names]
        arrays = ", ".join(f"%s::{_percent(column.type or 'text')}[]" for column in of_table)
        wanted = ", ".join(
            f"c{index}" if column.type else f"CAST(c{index} AS {_percent(column.sent_as)}) AS c{index}"
            for index, column in enumerate(of_table)
        )
        aliases = ", ".join(f"c{index}" for index in range(len(names)))
        literals = tuple(map(array_text, columns))
        if numbered:
            return f"SELECT {wanted}, n FROM unnest({arrays}) WITH ORDINALITY AS s({aliases}, n)", literals
        return f"SELECT {wanted} FROM unnest({arrays}) AS s({aliases})", literals

    def _explain(self, error: sa.exc.DBAPIError) -> ConnectorError:
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            return super()._explain(error)
        diagnostics = getattr(error.orig, "diag", None)
        sentence = self._sentence(error, getattr(diagnostics, "message_primary", None))
        if _judges_values(state, diagnostics):
            return Refused(sentence, getattr(diagnostics, "column_name", None) or "")
        if state in _MISMATCH_CODES or state[:2] in _MISMATCH_CLASSES:
            return SchemaMismatch(sentence)
        return Unavailable(sentence)

    def _is_demoted(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) == _READ_ONLY


def _judges_values(state: str, diagnostics: Any) -> bool:
    """Whether an error is about the values of a row."""
    kind = state[:2]
    if state in _REFUSED_CODES or kind in _REFUSED_CLASSES:
        return True
    if state == _NO_RIGHT:
        # That of a policy of the table, not to the table.
        return getattr(diagnostics, "source_function", None) == "ExecWithCheckOptions"
    if kind in ("42", "XX"):
        # Types of extensions have codes of all kinds for a text that is none of theirs, as has tsvector.
        is_text = state == _SYNTAX and getattr(diagnostics, "statement_position", None) is None
        return is_text or _parameter(diagnostics) > 0
    return kind not in _MISMATCH_CLASSES and kind not in _PASSING_CLASSES and state not in _MISMATCH_CODES


def _parameter(diagnostics: Any) -> int:
    """Return the number of the parameter whose text was refused; 0: it is about none."""
    # The last line is the outermost; those before it are about the value, or quote it.
    lines = (getattr(diagnostics, "context", None) or "").splitlines() or [""]
    found = _PARAMETER.match(lines[-1])
    return int(found.group(1)) if found else 0


def _columns(group: Group) -> Iterable[Sequence[Any]]:
    """Return what a group's rows give to its statement: the values, or of those that go, the keys."""
    return zip(*keys_of(group.rows)) if group.kind == "delete" else by_column(group.rows)


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _interval() -> Convert:
    judged = types.judged_by_database(nul=False)

    def convert(value: object) -> Any:
        text = judged(value)
        if text is not None and _LONG_FRACTION.search(text):
            raise ConversionError("the interval has a fraction of more than 6 digits, which would be rounded")
        return text

    return convert


def array_text(values: Sequence[Any]) -> str:
    """Return the values of one column as PostgreSQL's array text, each element quoted.

    The text is made of the whole column at once: per value there is no Python code but for values that are no
    texts.
    """
    kinds = set(map(type, values))
    if kinds == {int}:
        return "{" + ",".join(map(str, values)) + "}"
    if kinds != {str}:
        values = [_element(value) for value in values]
    # Between two values stands NUL, which no text in PostgreSQL holds.
    joined = "\0".join(values)
    if "\\" in joined:
        joined = joined.replace("\\", "\\\\")
    if '"' in joined:
        joined = joined.replace('"', '\\"')
    text = '{"' + joined.replace("\0", '","') + '"}'
    return text.replace(f'"{_NULL}"', "NULL") if type(None) in kinds else text


def _element(value: Any) -> str:
    if value is None:
        return _NULL
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return str(value)
