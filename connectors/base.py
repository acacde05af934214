"""The connector: one batch of row operations and its checkpoint become one transaction on one database.

A dialect is a subclass that says how to reach its database, how to write rows in bulk, and what its errors
mean. What this class does on rows itself is portable SQLAlchemy Core, so that a subclass can be very small.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from connectors import reflection
from connectors.bookkeeping.checkpoint import Checkpoint
from connectors.bookkeeping.handover import Handover
from connectors.bookkeeping.intents import Intents
from connectors.bookkeeping.letters import NO_DEBTS, Debts, Letters, Remembered
from connectors.errors import (
    ConnectorError,
    Fenced,
    NotHandedOver,
    Refused,
    SchemaMismatch,
    TargetError,
    Unavailable,
)
from connectors.groups import Groups
from connectors.pool import watch
from connectors.reading import READS, Reading
from connectors.rows import Applied, Claim, Group, Moves, Position, Refusal, RowOp
from connectors.tables import Column, Convert, Table
from connectors.values.texts import PLAIN, Text
from connectors.writing import marks, members, portable
from connectors.writing.blocks import grouped, keys_of, tables_of
from connectors.writing.isolation import Isolation
from connectors.writing.order import in_order
from connectors.writing.units import Unit
from connectors.writing.whole import WholeIsolation

log = logging.getLogger(__name__)

#: Seconds to wait for a connection, and for a lock that somebody else holds.
CONNECT_SECONDS = 10
LOCK_SECONDS = 10
#: Seconds after which a statement that gets no answer, or a transaction that does nothing, is given up.
SILENT_SECONDS = 60

NO_MOVES = Moves()


def no_units() -> Sequence[Unit] | None:
    """Rows are on their own."""
    return None


def none_remembered() -> Sequence[Remembered]:
    """Nothing is refused."""
    return ()


def no_debts() -> Debts:
    """Nothing is owed, and nothing settled."""
    return NO_DEBTS


def _is_of_database(info: Any, primary_key: Sequence[str]) -> bool:
    """Whether an UPDATE can't give a column a value: GENERATED ALWAYS AS IDENTITY, which INSERT can write."""
    identity = info.get("identity") or {}
    return bool(identity.get("always")) and info["name"] not in primary_key


def _nothing(connection: Connection, applied: int) -> None:
    pass


def _connect(dialect: sa.Dialect, record: Any, arguments: Any, options: Any) -> Any:
    """Open a connection. Raises TargetError for what the driver itself takes for a wrong call."""
    try:
        return dialect.connect(*arguments, **options)
    except (TypeError, ValueError) as error:
        # An option that it does not know, or a host that can't be one. Neither names a value.
        raise TargetError(f"the driver does not take the database's URL: {error}") from error
    except OSError as error:
        # Of the connection itself a driver has errors of its own.
        reason = error.strerror or type(error).__name__
        raise TargetError(f"a file that the database's URL names can't be used: {reason}") from error


class Around(NamedTuple):
    """What else is done where rows are written: ``begin`` opens each transaction and gets the number of rows
    that it is sure to write, ``add`` gets those that isolation has brought in, ``end`` comes before the
    COMMIT. ``prepare``: before a transaction in which rows will be refused. ``at_once``: do all of it in
    another way, with nothing done if it is refused; whether that was possible.
    """

    begin: Callable[[Connection, int], None] = _nothing
    add: Callable[[Connection, int], None] = _nothing
    end: Callable[[Connection], None] = lambda connection: None
    prepare: Callable[[], None] = lambda: None
    at_once: Callable[[], bool] = lambda: False


class Connector(Reading, Groups):
    """The tables and checkpoints of one database. Threads may share it: each call has its own connection.

    ``lock_seconds``: how long to wait for a lock; ``statement_seconds``: after which the database gives a
    statement up, 0: never.

    Raises TargetError when the driver for ``url`` is missing.
    """

    #: What the types of the database take.
    traits: type[reflection.Traits] = reflection.Traits

    def __init__(
        self,
        url: URL,
        schema: str | None = None,
        lock_seconds: float = LOCK_SECONDS,
        statement_seconds: float = 0,
    ) -> None:
        self.schema = schema
        self.lock_seconds = lock_seconds
        self.statement_seconds = statement_seconds
        self._password = str(url.password or "")
        self._tables: dict[str, Table] = {}
        self._lock = threading.Lock()
        self._checkpoint = Checkpoint(schema)
        self._handover = Handover(schema)
        self._intents = Intents(schema)
        self._letters = Letters(schema)
        self._can_hand_over = False
        self._can_remember = False
        try:
            self._engine = self._create_engine(url)
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise TargetError(f"the driver for {url.drivername} is not installed") from error
        except (sa.exc.ArgumentError, TypeError, ValueError) as error:
            raise TargetError(f"the options in the database's URL don't fit {url.drivername}") from error
        sa.event.listen(self._engine, "do_connect", _connect)

    @property
    def backend(self) -> str:
        """SQLAlchemy's name for the kind of database: ``postgresql``, ``mysql``, ``sqlite``."""
        return self._engine.url.get_backend_name()

    @contextlib.contextmanager
    def transaction(self, reads: bool = False) -> Iterator[Connection]:
        """Have a transaction for statements of one's own, with errors as all methods here raise them; it
        commits at the end of the block. ``reads``: it changes nothing.
        """
        with self._translated(), self._engine.execution_options(**{READS: reads}).begin() as connection:
            yield connection

    # -- Tables --------------------------------------------------------------------------------------------

    def table(self, name: str) -> Table:
        """Return a table as it is in the database, from memory if it was asked for before.

        Raises SchemaMismatch when it is missing or has no primary key.
        """
        with self._lock:
            known = self._tables.get(name)
        if known is None:
            with self._translated(), self._engine.connect() as connection:
                known = self._reflect(connection.execution_options(**{READS: True}), name)
            with self._lock:
                self._tables[name] = known
        return known

    def has_table(self, connection: Connection, name: str) -> bool:
        """Return whether there is a table of that name in the target's schema."""
        return sa.inspect(connection).has_table(name, schema=self.schema)

    def quoted_table(self, name: str) -> str:
        """Return a table's name for a statement that is sent with parameters."""
        return self._quoted_table(name)

    def quoted_column(self, name: str) -> str:
        """Return a column's name for a statement that is sent with parameters."""
        return self._quote(name)

    def raw_connection(self) -> Any:
        """Return a connection of the pool as SQLAlchemy wraps it; what it raises is the driver's own."""
        return self._engine.raw_connection()

    def forget_tables(self) -> None:
        """Forget all tables, because the schema may have changed."""
        with self._lock:
            self._tables.clear()
        self._can_hand_over = self._can_remember = False

    # -- Checkpoints ---------------------------------------------------------------------------------------

    def ensure_checkpoint(self) -> None:
        """Create the checkpoint table unless it is there; several may do so at once."""
        self._ensure(self._checkpoint.table)

    def _ensure(self, table: sa.Table) -> None:
        try:
            with self._transaction() as connection:
                if not self._has(connection, table):
                    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        except ConnectorError:
            with self._transaction() as connection:
                # Somebody else was faster.
                if self._has(connection, table):
                    return
            raise

    @staticmethod
    def _has(connection: Connection, table: sa.Table) -> bool:
        return sa.inspect(connection).has_table(table.name, schema=table.schema)

    def claim(self, stream: str, epoch: int, owner: str, adds: bool = True) -> Claim:
        """Take a stream over, after any transaction of its present owner has ended; tell its position.

        Raises Fenced when its owner's epoch is higher; unless it ``adds``, also when nobody has claimed it.
        """
        while True:
            with self._transaction() as connection:
                claim = self._checkpoint.claim(connection, stream, epoch, owner)
            if claim is not None:
                return claim
            if not adds:
                raise Fenced(f"{stream} is nobody's any more")
            try:
                with self._transaction() as connection:
                    self._checkpoint.add_stream(connection, stream)
            except Refused:
                log.debug("another worker has added %s just now", stream)

    # -- Rows ----------------------------------------------------------------------------------------------

    def apply(
        self,
        claim: Claim,
        position: Position,
        rows: Sequence[RowOp],
        on_refused: Callable[[list[Refusal]], None],
        earlier: Callable[[RowOp], Sequence[RowOp]],
        moves: Moves = NO_MOVES,
        units: Callable[[], Sequence[Unit] | None] = no_units,
        remembered: Callable[[], Sequence[Remembered]] = none_remembered,
        debts: Callable[[], Debts] = no_debts,
    ) -> Applied:
        """Apply ``rows`` and move the checkpoint to ``position``, in one transaction.

        Rows of the same table and key are applied in their order. What the database refuses is isolated; for
        a refused row, ``earlier`` gives the older states of it to apply instead, oldest first. ``on_refused``
        gets all refusals before the commit; if it raises, nothing is committed. ``moves``: what the batch
        says of keys that change their shard.

        ``units`` is asked once something is refused. What it gives is applied in the place of ``rows``, each
        unit whole or not at all, and ``on_refused`` is called in any case. None: rows are on their own.

        ``remembered`` is asked before the commit, after ``on_refused``, for what to keep in the table of
        letters; a database that refuses that is said so in the log, and holds up nothing. So are ``debts``:
        what becomes of what keys owe.

        Raises Unavailable (claim the stream again, then retry), Fenced, NotHandedOver or SchemaMismatch;
        nothing is committed then, except that after an Unavailable in COMMIT only the next claim can tell.
        """
        if moves != NO_MOVES and not self._can_hand_over:
            # Only clusters need the table, and only once their slots move.
            self._ensure(self._handover.table)
            self._can_hand_over = True
        # Who waits asks often: that takes no locks, and leaves the checkpoint alone.
        missing = self.not_handed_over(moves.taken)
        if missing:
            raise NotHandedOver(missing)

        def begin(connection: Connection, applied: int) -> None:
            self._checkpoint.move(connection, claim, position, applied)
            self._hand_over(connection, moves)

        def count(connection: Connection, applied: int) -> None:
            self._checkpoint.count(connection, claim, applied)

        def end(connection: Connection) -> None:
            self._remember(connection, claim.stream, remembered(), debts())

        def prepare() -> None:
            # Only who refuses something needs the table, and only a worker has a place for what it keeps.
            if remembered is not none_remembered:
                self._make_room_for_letters()

        remembers = bool(remembered()) or debts() is not NO_DEBTS
        if remembers:
            prepare()

        def at_once() -> bool:
            if remembers or moves != NO_MOVES:
                return False
            try:
                return self._commit_at_once(claim, position, rows, None)
            except SchemaMismatch as error:
                # There is more that a transaction can do, such as what stands in a rule of the table.
                log.debug("a batch of %d rows is not committed at once: %s", len(rows), error)
                return False

        return self._commit(rows, on_refused, earlier, Around(begin, count, end, prepare, at_once), units)

    def _make_room_for_letters(self) -> None:
        if self._can_remember:
            return
        try:
            self._ensure(self._letters.table)
            self._can_remember = True
        except (Refused, SchemaMismatch) as error:
            log.debug("the table of letters can't be made: %s", error)

    def _remember(
        self, connection: Connection, stream: str, rows: Sequence[Remembered], debts: Debts
    ) -> None:
        if not rows and debts is NO_DEBTS:
            return
        try:
            with self._savepoint(connection):
                if rows:
                    self._letters.keep(connection, stream, rows)
                self._letters.change(connection, debts)
        except (Refused, SchemaMismatch) as error:
            # It may be gone, or there is no right to it.
            self._can_remember = False
            log.warning(
                "%s: the database takes no note of dead letters, which a promotion can lose then: %s",
                stream,
                error,
            )

    def write(
        self,
        rows: Sequence[RowOp],
        on_refused: Callable[[list[Refusal]], None],
        earlier: Callable[[RowOp], Sequence[RowOp]],
    ) -> Applied:
        """Apply ``rows`` as ``apply`` does, without a checkpoint: what is repeated is written again."""
        return self._commit(rows, on_refused, earlier, Around())

    def _commit(
        self,
        rows: Sequence[RowOp],
        on_refused: Callable[[list[Refusal]], None],
        earlier: Callable[[RowOp], Sequence[RowOp]],
        around: Around,
        units: Callable[[], Sequence[Unit] | None] = no_units,
    ) -> Applied:
        """Write rows in one transaction, in a second one with isolation if the database refuses some."""
        for name in tables_of(rows):
            self.table(name)
        try:
            if around.at_once():
                return Applied(len(rows), 0)
            with self._transaction() as connection:
                around.begin(connection, len(rows))
                # What constraints that wait for the COMMIT refuse is isolated as all else.
                self._write_waves(connection, rows)
                around.end(connection)
            return Applied(len(rows), 0)
        except Refused as error:
            log.debug("a batch of %d rows is isolated: %s", len(rows), error)
        parted = units()
        around.prepare()
        try:
            with self._transaction() as connection:
                around.begin(connection, 0)
                isolation = self._isolate(connection, rows, earlier, parted)
                around.add(connection, isolation.applied)
                if isolation.refusals or parted is not None:
                    on_refused(self._with_columns(connection, isolation.refusals))
                around.end(connection)
            return Applied(isolation.applied, len(isolation.refusals))
        except Refused as error:
            raise SchemaMismatch(f"the database refuses at COMMIT what it took before: {error}") from error

    def _isolate(
        self,
        connection: Connection,
        rows: Sequence[RowOp],
        earlier: Callable[[RowOp], Sequence[RowOp]],
        units: Sequence[Unit] | None,
    ) -> Isolation | WholeIsolation:
        def attempt(part: Sequence[RowOp]) -> None:
            self._try(connection, part)

        if units is None:
            isolation = Isolation(attempt, earlier, connection.begin_nested)
            isolation.run(rows)
            return isolation
        whole = WholeIsolation(attempt, connection.begin_nested)
        whole.run(units)
        return whole

    def not_handed_over(self, tokens: Sequence[str]) -> Sequence[str]:
        """Return those of the tokens of moves that are not there."""
        if not tokens:
            return ()
        with self.transaction(reads=True) as connection:
            return self._handover.missing(connection, tokens)

    def _hand_over(self, connection: Connection, moves: Moves) -> None:
        self._handover.take(connection, moves.taken)
        self._handover.give(connection, moves.given)

    def close(self) -> None:
        """Close all connections."""
        self._close_lasting()
        self._engine.dispose()

    # -- What a dialect may do its own way -----------------------------------------------------------------

    def _create_engine(self, url: URL) -> Engine:
        options = self._engine_options()
        engine = sa.create_engine(url, hide_parameters=True, pool_size=4, max_overflow=60, **options)
        watch(engine, self._is_demoted)
        return engine

    def _is_demoted(self, error: BaseException) -> bool:
        """Whether an error of the driver says that the server only reads by now."""
        return False

    def _engine_options(self) -> dict[str, Any]:
        """Return further arguments for SQLAlchemy's create_engine."""
        return {}

    def _converter(self, type_: Any) -> Convert:
        """Return the converter for a column of SQLAlchemy's ``type_``."""
        return reflection.converter(type_, self.traits())

    def _text(self, type_: Any) -> Text:
        """Return how a column of SQLAlchemy's ``type_`` is read."""
        return PLAIN

    def _complete(
        self, connection: Connection, reflected: reflection.Reflected, name: str, columns: dict[str, Column]
    ) -> list[str]:
        """Correct what SQLAlchemy's reflection did not tell; return warnings about the table."""
        return []

    @staticmethod
    def _true_name(name: str) -> str:
        """Return the name of a column of which SQLAlchemy's reflection gives ``name``."""
        return name

    def _default(self, column: Column) -> str:
        """Return the SQL expression that sets a column of an existing row to its default."""
        return "DEFAULT"

    def _upsert(
        self, connection: Connection, table: Table, rows: Sequence[RowOp], absent: Sequence[tuple[str, str]]
    ) -> None:
        """Write rows of the same columns; no key is twice among them.

        ``absent`` are pairs of a column and the SQL expression that an existing row gets in it.
        """
        portable.upsert(connection, self.schema, table, rows, absent)

    def _delete(self, connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
        portable.delete(connection, self.schema, table, keys)

    def _clear(self, connection: Connection, table: Table) -> None:
        portable.clear(connection, self.schema, table)

    def _settle(self, connection: Connection) -> None:
        """Have constraints checked that would otherwise wait for the COMMIT."""

    def _blamed(self, connection: Connection, table: Table, refusal: Refusal) -> str:
        """Return the column for which a row was refused, when the error did not bring it along; else ""."""
        return ""

    def _explain(self, error: sa.exc.DBAPIError) -> ConnectorError:
        """Return what an error of the driver means for the caller."""
        if error.connection_invalidated:
            return Unavailable(self._sentence(error))
        if isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError)):
            return Refused(self._sentence(error))
        if isinstance(error, (sa.exc.ProgrammingError, sa.exc.NotSupportedError)):
            return SchemaMismatch(self._sentence(error))
        return Unavailable(self._sentence(error))

    # -- The rest ------------------------------------------------------------------------------------------

    def _sentence(self, error: sa.exc.DBAPIError, text: str | None = None) -> str:
        """Return the driver's message as one line without the password."""
        lines = (str(error.orig) if text is None else text).strip().splitlines()
        line = lines[0] if lines else type(error.orig).__name__
        return line.replace(self._password, "***") if self._password else line

    def _quote(self, name: str) -> str:
        """Quote a name for a statement that is sent with parameters."""
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _quoted_table(self, name: str) -> str:
        return f"{self._quote(self.schema)}.{self._quote(name)}" if self.schema else self._quote(name)

    def _with_columns(self, connection: Connection, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Name the columns for which rows were refused, also those that came after the tables were read."""
        if any(each.column and each.column not in self.table(each.row.table).columns for each in refusals):
            self.forget_tables()
        named = [self._with_column(connection, each) for each in refusals]
        doubtful = sorted({each.row.table for each in named if not each.column})
        # By this connection: another one might have to wait for it.
        found = {name: self._reflect(connection, name) for name in doubtful}
        if all(found[name].columns.keys() == self.table(name).columns.keys() for name in doubtful):
            return named
        self.forget_tables()
        with self._lock:
            self._tables.update(found)
        return [self._with_column(connection, each) for each in named]

    def _with_column(self, connection: Connection, refusal: Refusal) -> Refusal:
        table = self.table(refusal.row.table)
        if refusal.column in table.columns:
            return refusal
        return refusal._replace(column=self._blamed(connection, table, refusal))

    def _reflect(self, connection: Connection, name: str) -> Table:
        reflected = reflection.Reflected(connection, name, self.schema, self._true_name)
        columns = {}
        for info in reflected.columns:
            default = info.get("default")
            makes_own = info.get("autoincrement") is True or info.get("identity") or info.get("computed")
            name_of_column = self._true_name(info["name"])
            columns[name_of_column] = Column(
                name_of_column,
                info["type"],
                str(info["type"]) if not isinstance(info["type"], sa.types.NullType) else "unknown",
                self._converter(info["type"]),
                nullable=bool(info["nullable"]),
                has_default=default is not None or bool(makes_own),
                primary_key=name_of_column in reflected.primary_key,
                default=default,
                text=self._text(info["type"]),
                computed=bool(info.get("computed")) or _is_of_database(info, reflected.primary_key),
            )
        notes = self._complete(connection, reflected, name, columns)
        return reflection.make_table(reflected, name, columns, notes)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._translated(), self._engine.connect() as connection:
            with connection.begin() as transaction:
                yield connection
                try:
                    with self._translated():
                        transaction.commit()
                except Unavailable as error:
                    error.in_commit = True
                    raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            # The driver's own error is the cause: SQLAlchemy's would bring the whole statement into logs.
            raise self._explain(error) from error.orig
        except sa.exc.SQLAlchemyError as error:
            raise Unavailable(f"the connection can't be used: {type(error).__name__}") from error

    def _try(self, connection: Connection, rows: Sequence[RowOp]) -> None:
        with self._savepoint(connection):
            self._write(connection, rows)

    @contextlib.contextmanager
    def _savepoint(self, connection: Connection) -> Iterator[None]:
        """Have what is refused here undone alone.

        After Unavailable nobody goes back to the savepoint. A deadlock ends the whole transaction on MySQL;
        then that there is no such savepoint would stand in for it, as if the rest could still be committed.
        """
        with self._translated():
            savepoint = connection.begin_nested()
            try:
                with self._translated():
                    yield
            except Unavailable:
                raise
            except BaseException:
                savepoint.rollback()
                raise
            savepoint.commit()

    def _write(self, connection: Connection, rows: Sequence[RowOp]) -> None:
        self._write_waves(connection, rows)
        self._settle(connection)

    def _write_waves(self, connection: Connection, rows: Sequence[RowOp]) -> None:
        for wave in grouped(rows):
            for group in in_order(wave, self.table):
                self._write_group(connection, group)

    def _write_group(self, connection: Connection, group: Group) -> None:
        table = self.table(group.table)
        if group.kind == "clear":
            self._clear(connection, table)
        elif group.kind == "delete":
            self._delete(connection, table, keys_of(group.rows))
        elif group.kind == "mark":
            marks.mark(connection, self.schema, table, group)
        elif group.kind == "replace":
            members.replace(connection, table, group, self._found, self._delete, self._upsert)
        else:
            if group.resets:
                defaults = [(name, self._default(table.columns[name])) for name in group.resets]
                marks.reset(connection, self.schema, table, group, defaults)
            self._upsert(connection, table, group.rows, self._absent(table, group))

    def _absent(self, table: Table, group: Group) -> list[tuple[str, str]]:
        for name in (*group.columns, *group.nulls, *group.defaults, *group.resets):
            if name not in table.columns:
                raise SchemaMismatch(f"the table {table.name} has no column {name}")
        absent = []
        for name in group.nulls:
            column = table.columns[name]
            needs_default = not column.nullable and column.has_default
            absent.append((name, self._default(column) if needs_default else "NULL"))
        absent.extend((name, self._default(table.columns[name])) for name in group.defaults)
        return absent
