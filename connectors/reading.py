"""Reading rows back: those of some keys, and whole tables page by page; what all databases have in common.

Transactions here only read. Values come as the texts of ``connectors/values/texts.py``; NULL is None.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Iterable, Iterator, Optional, Sequence, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from connectors import wheres
from connectors.checksums import Checksums
from connectors.children import ChildChecksums
from connectors.errors import ConversionError, Refused, SchemaMismatch, UnreadableRow
from connectors.tables import Column, Table
from connectors.values import texts
from connectors.values.texts import Encode
from connectors.writing.members import KEYS_AT_ONCE

#: The execution option of a transaction that only reads.
READS = "gearsync_reads"

Row = Tuple[Optional[bytes], ...]
Key = Tuple[Any, ...]


class Reading:
    """The part of a connector that reads rows."""

    schema: str | None
    _engine: Engine

    #: The most keys that one statement asks for.
    keys_at_once = 900
    #: Whether a comparison of rows, ``(a, b) > (1, 2)``, finds its place by the index.
    compares_rows = False
    #: The execution options of a transaction that only reads.
    reads: ClassVar[dict[str, Any]] = {READS: True}
    #: What gives another number for each row.
    random_number = "RANDOM()"
    #: What makes one text of the numbers ``s.k``, in order, with commas between them; empty: nothing does.
    joined = ""
    #: What quotes and comments look like there.
    syntax = wheres.STANDARD

    def table_names(self) -> list[str]:
        """Return the names of the tables in the target's schema, in their order. Raises Unavailable."""
        with self._translated(), self._engine.connect() as connection:
            return sorted(self._table_names(connection.execution_options(**{READS: True})))

    def _table_names(self, connection: Connection) -> list[str]:
        return sa.inspect(connection).get_table_names(self.schema)

    def read(self, name: str, keys: Sequence[Key], columns: Sequence[str]) -> list[Row | None]:
        """Return the row of each key, in the order of ``keys``: the texts of ``columns``; None: no row.

        ``keys`` are converted values in the order of the table's primary key. A key that the database takes
        for none of its type has no row. Raises Unavailable, SchemaMismatch, or UnreadableRow: the database
        can't give what some row holds.
        """
        table = self.table(name)
        wanted = _columns_of(table, columns)
        if not keys:
            return []
        try:
            return self._read(table, keys, wanted)
        except Refused as error:
            if len(keys) > 1:
                half = len(keys) // 2
                return self.read(name, keys[:half], columns) + self.read(name, keys[half:], columns)
            self._require_key_refused(table, keys, error)
            return [None]

    def scan(
        self,
        name: str,
        columns: Sequence[str],
        after: Key | None = None,
        where: str = "",
        most: int = 1000,
        absent: str = "",
    ) -> list[Row]:
        """Return up to ``most`` rows in the order of the primary key, from the first one after ``after`` on.

        A row begins with the texts of its primary key, and those of ``columns`` follow. ``after`` holds
        what ``key_part`` makes of such texts. ``where`` is an expression in the database's own SQL, and
        stands in the statement as it is: see ``check_where``. Rows with a NULL in their key, which SQLite may
        have, are left out, and those that have something in the column ``absent``.

        Raises Unavailable, or SchemaMismatch.
        """
        table = self.table(name)
        key = [table.columns[column] for column in table.primary_key]
        wanted = [*key, *_columns_of(table, columns)]
        source = self._source_of(table)
        places = [source.c[column.name] for column in key]
        statement = self._selected(source, wanted).order_by(*places).limit(most)
        conditions: list[Any] = [place.is_not(None) for place, column in zip(places, key) if column.nullable]
        if after is not None:
            conditions.append(self._beyond(key, places, after))
        if absent:
            conditions.append(_is_null(absent))
        if where:
            conditions.append(sa.literal_column(f"({where}\n)"))
        try:
            with self._reading() as connection:
                rows = connection.execute(statement.where(*conditions)).all()
        except Refused as error:
            raise SchemaMismatch(f"the rows of {name} can't be read: {error}") from error
        return _all_encoded(wanted, rows)

    def scan_keys(self, name: str, after: Key | None, most: int, absent: str) -> list[Row]:
        """Return what ``scan`` does of the primary keys alone."""
        table = self.table(name)
        key = [table.columns[column] for column in table.primary_key]
        if not self.joined or len(key) != 1 or not _is_whole(key[0]):
            return self.scan(name, (), after, "", most, absent)
        source = self._source_of(table)
        (place,) = (source.c[column.name] for column in key)
        page: sa.Select[Any] = sa.select(place.label("k")).order_by(place).limit(most)
        if after is not None:
            page = page.where(place > _bound("after", after[0]))
        if absent:
            page = page.where(_is_null(absent))
        # One text is much less work for the driver than thousands of rows.
        statement: sa.Select[Any] = sa.select(sa.literal_column(self.joined)).select_from(page.subquery("s"))
        with self._reading() as connection:
            text = connection.execute(statement).scalar()
        return [] if text is None else list(zip(str(text).encode().split(b",")))

    def count(self, name: str, where: str = "", absent: str = "") -> int:
        """Return the number of rows that ``scan`` comes to. Raises Unavailable, or SchemaMismatch."""
        table = self.table(name)
        statement = sa.select(sa.func.count()).select_from(self._source_of(table))
        if where:
            statement = statement.where(sa.literal_column(f"({where}\n)"))
        if absent:
            statement = statement.where(_is_null(absent))
        with self._reading() as connection:
            return int(connection.execute(statement).scalar_one())

    def checksums(self, name: str, columns: Sequence[str]) -> Checksums | None:
        """Return what makes checksums of many rows of a table; None: the database does not."""
        return None

    def children(
        self, name: str, parents: Sequence[str], keys: Sequence[Key], columns: Sequence[str]
    ) -> list[Row]:
        """Return all rows whose columns ``parents`` have one of the values ``keys``, in any order: the texts
        of ``parents``, and those of ``columns``. A key that the database takes for none of its type has none.

        Raises Unavailable, or SchemaMismatch.
        """
        table = self.table(name)
        wanted = _columns_of(table, [*parents, *columns])
        keyed = Table(table.name, table.columns, tuple(parents), [])
        rows: list[Row] = []
        try:
            with self._reading() as connection:
                for start in range(0, len(keys), KEYS_AT_ONCE):
                    part = keys[start : start + KEYS_AT_ONCE]
                    rows += _all_encoded(wanted, self._found(connection, keyed, part, wanted))
        except Refused as error:
            if len(keys) > 1:
                half = len(keys) // 2
                parts = [self.children(name, parents, part, columns) for part in (keys[:half], keys[half:])]
                return parts[0] + parts[1]
            self._require_key_refused(keyed, keys, error)
            return []
        return rows

    def child_checksums(
        self, name: str, parents: Sequence[str], columns: Sequence[str]
    ) -> ChildChecksums | None:
        """Return what makes checksums of all rows of many keys of Redis, which are the columns ``parents``;
        None: the database does not.
        """
        return None

    def key_part(self, column: Column, text: bytes) -> Any:
        """Return the value of a column of a key, of the text that reading gave: also one that no hash could
        write (``infinity``), so that rows behind it are found.
        """
        try:
            return column.convert(text)
        except ConversionError:
            return text.decode("utf-8", "surrogateescape")

    def key_text(self, column: Column, written: bytes) -> bytes:
        """Return the text that reading gives of a column of a key, of which a trigger wrote this down.

        Raises ConversionError: it is none.
        """
        return column.text.encode(column.convert(written))

    def as_stored(self, column: Column, value: Any) -> bytes | None:
        """Return the text that a column would have for a value that its converter takes, where only the
        database knows how it is written; None: it does not take it, or writes nothing its own way.

        Raises Unavailable, or SchemaMismatch.
        """
        return None

    def random(self, name: str, most: int) -> list[Row]:
        """Return the texts of the primary keys of up to ``most`` rows, any of them with the same chance.

        Raises Unavailable, or SchemaMismatch.
        """
        table = self.table(name)
        key = [table.columns[column] for column in table.primary_key]
        source = self._source_of(table)
        places = [source.c[column.name].is_not(None) for column in key if column.nullable]
        order: Any = sa.literal_column(self.random_number)
        statement = self._selected(source, key).where(*places).order_by(order).limit(most)
        with self._reading() as connection:
            return _all_encoded(key, connection.execute(statement).all())

    def check_where(self, name: str, where: str) -> str:
        """Return what is wrong with ``where`` as one expression on the rows of a table; empty: nothing.

        Raises Unavailable, or SchemaMismatch when it is the table that is wrong.
        """
        self.table(name)
        problem = wheres.problem(where, self.syntax)
        if problem:
            return problem
        try:
            self.scan(name, [], where=where, most=0)
        except SchemaMismatch as error:
            return f"the database does not take it: {error}"
        return ""

    # -- What the connector has, and a dialect may do its own way ------------------------------------------

    def table(self, name: str) -> Table:
        """Return a table as it is in the database."""
        raise NotImplementedError

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        raise NotImplementedError

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Begin a transaction that can't write."""
        with self._translated(), self._engine.connect() as connection:
            with connection.execution_options(**self.reads).begin():
                yield connection

    def _select(
        self, connection: Connection, table: Table, keys: Sequence[Key], columns: Sequence[Column]
    ) -> Iterable[tuple[int, Sequence[Any]]]:
        """Return the rows that exist: the index of the key, and the values of ``columns``.

        Different texts can be one key to the database (``A`` and ``a``): then a row does not tell which of
        them it answers, and they are asked for one by one.
        """
        wanted = [*(table.columns[name] for name in table.primary_key), *columns]
        width = len(table.primary_key)
        waiting: dict[Key, list[int]] = {}
        for index, key in enumerate(keys):
            waiting.setdefault(key, []).append(index)
        while waiting:
            rows = self._found(connection, table, list(waiting), wanted)
            exact = [(waiting.pop(_key_of(wanted[:width], row), ()), row) for row in rows]
            yield from ((index, row[width:]) for indexes, row in exact for index in indexes)
            if not any(indexes for indexes, _ in exact):
                break
            waiting = {
                key: indexes for key, indexes in waiting.items() if any(isinstance(part, str) for part in key)
            }
        for key, indexes in waiting.items() if rows else ():
            for row in self._found(connection, table, [key], wanted):
                yield from ((index, row[width:]) for index in indexes)

    def _found(
        self, connection: Connection, table: Table, keys: Sequence[Key], columns: Sequence[Column]
    ) -> Sequence[Sequence[Any]]:
        """Return the values of ``columns`` of the rows of ``keys``, in any order."""
        source = self._source_of(table)
        places = [source.c[name] for name in table.primary_key]
        these = [
            sa.and_(
                *(
                    place == _bound(f"k{at}_{index}", part)
                    for index, (place, part) in enumerate(zip(places, key))
                )
            )
            for at, key in enumerate(keys)
        ]
        return connection.execute(self._selected(source, columns).where(sa.or_(*these))).all()

    # -- The rest ------------------------------------------------------------------------------------------

    def _read(self, table: Table, keys: Sequence[Key], columns: Sequence[Column]) -> list[Row | None]:
        rows: list[Row | None] = [None] * len(keys)
        with self._reading() as connection:
            for start in range(0, len(keys), self.keys_at_once):
                part = keys[start : start + self.keys_at_once]
                for index, values in self._select(connection, table, part, columns):
                    rows[start + index] = _encoded(columns, values)
        return rows

    def _require_key_refused(self, table: Table, keys: Sequence[Key], error: Refused) -> None:
        """See that it is a key that is refused, and not what its row holds."""
        try:
            self._read(table, keys, [])
        except Refused:
            return
        raise UnreadableRow(f"a row of {table.name} can't be read: {error}") from error

    def _source_of(self, table: Table) -> sa.TableClause:
        return sa.table(table.name, *map(sa.column, table.primary_key), schema=self.schema)

    def _selected(self, source: sa.TableClause, columns: Sequence[Column]) -> sa.Select[Any]:
        preparer = self._engine.dialect.identifier_preparer
        doubled = self._engine.dialect.paramstyle in ("format", "pyformat")

        def quoted(name: str) -> str:
            # A percent sign is doubled with the whole expression.
            text = preparer.quote_identifier(name)
            return text.replace("%%", "%") if doubled else text

        texts = [column.text.select.format(quoted(column.name)) for column in columns] or ["1"]
        wanted: list[Any] = [sa.literal_column(text) for text in texts]
        return sa.select(*wanted).select_from(source)

    def _beyond(self, key: Sequence[Column], places: Sequence[Any], after: Key) -> Any:
        values = [
            self._in_order(column, f"after_{index}", part)
            for index, (column, part) in enumerate(zip(key, after))
        ]
        if self.compares_rows:
            return sa.tuple_(*places) > sa.tuple_(*values)
        return sa.or_(
            *(
                sa.and_(
                    *(place == value for place, value in zip(places[:at], values)), places[at] > values[at]
                )
                for at in range(len(places))
            )
        )

    def _in_order(self, column: Column, name: str, value: Any) -> Any:
        """Return a value as it stands among those of a column in ORDER BY."""
        return _bound(name, value)


def _is_whole(column: Column) -> bool:
    try:
        return type(column.convert(b"1")) is int and column.text.encode is texts.plain
    except ConversionError:
        return False


def _is_null(column: str) -> Any:
    place: Any = sa.column(column)
    return place.is_(None)


def _bound(name: str, value: Any) -> Any:
    # Without a type, so that the database takes it for one of the column's.
    return sa.bindparam(name, value, type_=sa.types.NullType())


def _columns_of(table: Table, names: Sequence[str]) -> list[Column]:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise SchemaMismatch(f"the table {table.name} has no column {', '.join(missing)}")
    return [table.columns[name] for name in names]


def _all_encoded(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[Row]:
    """Do as ``_encoded`` for many rows, a column at a time."""
    made = [
        _column_encoded(encode, values)
        for encode, values in zip([column.text.encode for column in columns], zip(*rows))
    ]
    return list(zip(*made))


def _column_encoded(encode: Encode, values: Sequence[Any]) -> list[bytes | None]:
    if encode is texts.plain and set(map(type, values)) == {str}:
        return [value.encode() for value in values]
    return [None if value is None else encode(value) for value in values]


def _encoded(columns: Sequence[Column], values: Sequence[Any]) -> Row:
    return tuple(
        [None if value is None else column.text.encode(value) for column, value in zip(columns, values)]
    )


def _key_of(key: Sequence[Column], row: Sequence[Any]) -> Key:
    """Return the key of a row as its columns convert it; empty: they take it for none."""
    try:
        return tuple(column.convert(column.text.encode(value)) for column, value in zip(key, row))
    except ConversionError:
        return ()
