"""A connector for recipes that call rgsync 1.2 inside RedisGears 1.2: its protocol, our way to SQL.

::

    from connectors import Target
    from connectors.rgsync import RgsyncConnector
    from rgsync import RGWriteBehind

    RGWriteBehind(
        GB,
        keysPrefix="person",
        mappings={"first_name": "first", "last_name": "last", "age": "age"},
        connector=RgsyncConnector(Target("env:REPORTING_DB_URL"), "persons", "person_id"),
        name="PersonsWriteBehind",
        version="99.99.99",
    )
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import socket
import threading
import time
from typing import Any, Dict, Iterable, NamedTuple, Sequence

from connectors.base import Connector
from connectors.errors import ConnectorError, ConversionError, SchemaMismatch
from connectors.registry import connect
from connectors.rows import Claim, Position, Refusal, RowOp
from connectors.tables import Table
from connectors.target import Target

log = logging.getLogger(__name__)

#: rgsync's field of the operation, and the two operations that it hands to connectors.
OPERATION = "#"
UPSERT = "="
DELETE = "~"

#: rgsync knows no epochs, so that all its positions have one.
EPOCH = 0

#: A dict of "value", and from a stream also of "id" and "key" (the stream).
Record = Dict[str, Any]


class RowsRefused(ConnectorError):
    """Rows are refused, and there is nobody to keep them; nothing was committed."""


class _Letter(NamedTuple):
    """A refused row: the record that it came from, why it is refused, and the column when it is known."""

    record: Record
    reason: str
    column: str


class RgsyncConnector:
    """Serves as the ``connector`` of rgsync's RGWriteBehind and RGWriteThrough.

    ``target``: the database; its variable or file is read by the process of the Redis server. ``table``: a
    table in the target's schema, under its exact name, as are the columns in rgsync's ``mappings``.
    ``primary_key``: the one column of the table's primary key.

    Each batch is one transaction of multi-row statements. A value that does not fit its column, or a row that
    the database refuses, does not stop the others:

    - From a stream (RGWriteBehind), inside RedisGears: it becomes an entry of the stream
      ``gearsync:{<hash tag of the shard, or 0>}:dead:rgsync:<table>``, before the commit. After a crash
      between the two it can stand there twice.
    - In write-through, or where there is no RedisGears: RowsRefused is raised and nothing is committed, so
      that rgsync writes the reason to the stream of acknowledgments.

    What is exactly once: a batch from a stream moves a checkpoint in its own transaction, so that what rgsync
    hands over again after a crash or an error is skipped. What is not:

    - Write-through has no ids, and a write whose commit was cut off may be in or not.
    - rgsync has no epochs. After a failover that lost entries which SQL already has, to a replica whose clock
      is behind, new entries with ids that SQL has seen are skipped as well; and nothing but the claim tells
      two primaries of a split brain apart, so that they take turns.
    - What rgsync itself loses before it calls a connector. docs/from-rgsync.md lists it.
    """

    def __init__(self, target: Target, table: str, primary_key: str) -> None:
        self.target = target
        self.table = table
        self.primary_key = primary_key
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        # RedisGears pickles what a registration needs, and sends it to every shard and into the RDB file.
        return {"target": self.target, "table": self.table, "primary_key": self.primary_key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        return f"RgsyncConnector({self.target!r}, {self.table!r}, {self.primary_key!r})"

    # -- rgsync's protocol -----------------------------------------------------------------------------------

    def TableName(self) -> str:
        """Return the name of the table."""
        return self.table

    def PrimaryKey(self) -> str:
        """Return the column that rgsync fills from the key."""
        return self.primary_key

    def PrepereQueries(self, mappings: dict[str, str]) -> None:
        """Do nothing: statements are made of the columns that a batch brings, by the table as it is then."""

    def WriteData(self, data: Sequence[Record]) -> None:
        """Write records of rgsync: ``{"id": …, "key": stream, "value": {column: text, "#": operation}}``.

        Raises ConnectorError; rgsync then calls again, or tells the client that the write failed.
        """
        for stream, records in itertools.groupby(data, _stream_of):
            try:
                if stream:
                    self._write_stream(stream, list(records))
                else:
                    self._write_through(list(records))
            except ConnectorError:
                # The schema may have been mended until the next call, and the claim has to be made again.
                if self._open is not None:
                    self._open.forget_tables()
                self._claims.pop(stream, None)
                raise

    # -- From a stream ---------------------------------------------------------------------------------------

    def _write_stream(self, stream: str, records: list[Record]) -> None:
        connector = self._connector()
        claim = self._claim(connector, stream)
        ahead = [record for record in records if _position(record) > claim.position]
        if len(ahead) < len(records):
            log.info("%d changes of %s are in SQL already", len(records) - len(ahead), stream)
        if not ahead:
            return
        batch = _Batch(connector.table(self.table), self.primary_key, ahead)
        self._keep(stream, batch.faults)
        position = _position(ahead[-1])

        def refused(refusals: list[Refusal]) -> None:
            self._keep(stream, _letters(refusals))

        connector.apply(claim, position, batch.rows, refused, batch.earlier)
        self._claims[stream] = claim._replace(position=position)
        self._kept.pop(stream, None)

    def _claim(self, connector: Connector, stream: str) -> Claim:
        claim = self._claims.get(stream)
        if claim is None:
            connector.ensure_checkpoint()
            name = f"rgsync:{stream}".encode("ascii", "backslashreplace").decode()
            claim = connector.claim(name, EPOCH, f"rgsync on {socket.gethostname()}")
            self._claims[stream] = claim
        return claim

    def _keep(self, source: str, letters: Sequence[_Letter]) -> None:
        """Store dead letters, but not those that an earlier call for the same batch has stored."""
        kept = self._kept.setdefault(source, set())
        missing = [each for each in letters if each.record["id"] not in kept]
        if not missing:
            return
        redis = _redisgears()
        if redis is None:
            raise RowsRefused(_sentence(missing, "and there is no RedisGears here to keep them"))
        stream = f"gearsync:{{{redis.getMyHashTag() or 0}}}:dead:rgsync:{self.table}"
        for letter in missing:
            redis.executeCommand("XADD", stream, "*", *self._fields(letter))
            kept.add(letter.record["id"])
        redis.log(_sentence(missing, f"and stand in the stream {stream}"), level="warning")

    def _fields(self, letter: _Letter) -> list[str]:
        value = letter.record["value"]
        document = {
            "change": letter.record["id"],
            "op": "d" if value.get(OPERATION) == DELETE else "u",
            "image": json.dumps({name: _readable(each) for name, each in _columns(value).items()}),
            "reason": letter.reason,
            "table": self.table,
            "column": letter.column,
            "at": str(int(time.time() * 1000)),
        }
        return [part for pair in document.items() for part in pair]

    # -- Write-through ---------------------------------------------------------------------------------------

    def _write_through(self, records: list[Record]) -> None:
        connector = self._connector()
        batch = _Batch(connector.table(self.table), self.primary_key, records)
        _refuse(batch.faults)
        connector.write(batch.rows, lambda refusals: _refuse(_letters(refusals)), batch.earlier)

    # -- The rest --------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._open: Connector | None = None
        self._claims: dict[str, Claim] = {}
        # The ids of the dead letters of each stream's batch in flight.
        self._kept: dict[str, set[str]] = {}

    def _connector(self) -> Connector:
        """Return the connector, which is made where the records are: its variable may be set only there."""
        with self._lock:
            if self._open is None:
                self._open = connect(self.target.resolve(), self.target.schema)
            return self._open

    def close(self) -> None:
        """Close all connections; the next write opens new ones. rgsync never calls this."""
        if self._open is not None:
            self._open.close()
        self._forget()


class _Batch:
    """The row operations of some records, and the records that have none because a value does not fit.

    An operation that a later one of the same row makes needless is left out of ``rows``; ``earlier`` has it
    in case the database refuses the later one.
    """

    def __init__(self, table: Table, primary_key: str, records: Iterable[Record]) -> None:
        if table.primary_key != (primary_key,):
            raise SchemaMismatch(
                f"the primary key of the table {table.name} is ({', '.join(table.primary_key)}), but the "
                f"recipe names {primary_key}"
            )
        self.faults: list[_Letter] = []
        self._table = table
        self._rows: dict[RowOp, None] = {}
        self._latest: dict[Any, RowOp] = {}
        self._past: dict[RowOp, list[RowOp]] = {}
        for record in records:
            self._take(record)
        self.rows = list(self._rows)

    def earlier(self, row: RowOp) -> list[RowOp]:
        """Return what ``row`` made needless, oldest first."""
        return self._past.get(row, [])

    def _take(self, record: Record) -> None:
        operation = record["value"].get(OPERATION, UPSERT)
        values = {
            name: value
            for name, value in _columns(record["value"]).items()
            # Names of rgsync's own begin like that, but so may a column.
            if not name.startswith("_") or name in self._table.columns
        }
        if operation not in (UPSERT, DELETE):
            self.faults.append(_Letter(record, f"the operation {operation} is neither = nor ~", ""))
            return
        (name,) = self._table.primary_key
        names = (name,) if operation == DELETE else (name, *sorted(values.keys() - {name}))
        converted = []
        for name in names:
            try:
                converted.append(self._convert(name, values))
            except ConversionError as error:
                # A key that the column does not take never had a row to delete.
                if operation != DELETE:
                    self.faults.append(_Letter(record, f"column {name}: {error}", name))
                return
        key = (converted[0],)
        if operation == DELETE:
            self._add(RowOp(self._table.name, "delete", key, origin=record))
        else:
            self._add(RowOp(self._table.name, "upsert", key, names, tuple(converted), origin=record))

    def _convert(self, name: str, values: dict[str, Any]) -> Any:
        column = self._table.columns.get(name)
        if column is None:
            raise SchemaMismatch(f"the table {self._table.name} has no column {name}")
        if name not in values:
            raise ConversionError("rgsync has brought no value")
        return column.convert(values[name])

    def _add(self, row: RowOp) -> None:
        before = self._latest.get(row.key)
        # An upsert of other columns is still needed, and so is a delete: columns get their defaults by it.
        if before is not None and (row.kind == "delete" or before.columns == row.columns):
            del self._rows[before]
            self._past[row] = [*self._past.pop(before, []), before]
        self._rows[row] = None
        self._latest[row.key] = row


def _stream_of(record: Record) -> str:
    """Return the stream that a record was read from; empty in write-through."""
    return str(record.get("key") or "") if record.get("id") else ""


def _position(record: Record) -> Position:
    ms, _, seq = str(record["id"]).partition("-")
    return Position(EPOCH, int(ms), int(seq or 0))


def _columns(value: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a record's value; RedisGears brings what is no UTF-8 as bytearray."""
    return {
        name: bytes(each) if isinstance(each, bytearray) else each
        for name, each in value.items()
        if name != OPERATION
    }


def _letters(refusals: Iterable[Refusal]) -> list[_Letter]:
    letters = []
    for refusal in refusals:
        record = refusal.row.origin
        assert isinstance(record, dict)  # noqa: S101 (for mypy)
        letters.append(_Letter(record, refusal.reason, refusal.column))
    return letters


def _refuse(letters: Sequence[_Letter]) -> None:
    if letters:
        raise RowsRefused(_sentence(letters, "so nothing is written"))


def _sentence(letters: Sequence[_Letter], outcome: str) -> str:
    count = "one row is refused" if len(letters) == 1 else f"{len(letters)} rows are refused"
    return f"{count}, {outcome}: {letters[0].reason}"


def _readable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return value.decode("utf-8", "backslashreplace")


def _redisgears() -> Any:
    """Return the module that RedisGears has built in; None: this is another Python."""
    try:
        return importlib.import_module("redisgears")
    except ImportError:
        return None
