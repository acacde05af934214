"""A batch, or a group of waiting clients' writes, as one statement: PostgreSQL commits it in one round trip.

The checkpoint is moved first, and all else hangs on that: where another worker owns the stream, nothing is
written. Rows of several tables and of several shapes are further parts of the same statement, because no row
is in two of them.

The statement is prepared, for it takes PostgreSQL longer to read and plan it than to do it.
"""

from __future__ import annotations

import itertools
import re
import uuid
from typing import Any, Mapping, NamedTuple, Sequence, Tuple

import psycopg
from psycopg import pq

from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.intents import TABLE_NAME as INTENTS
from connectors.rows import Claim, Position

#: What each part hangs on.
CONDITION = "WHERE EXISTS (SELECT FROM moved)"

_POSITION = (("epoch", "bigint"), ("ms", "bigint"), ("seq", "bigint"))
_MOVED = (*_POSITION, ("rows", "bigint"), ("stream", "text"), ("generation", "bigint"))
#: Of a row of the table of intents what the checkpoint has not.
_KEPT = (("previous", "text"), ("record", "bytea"))

_NO_SUCH_STATEMENT = "26000"
MOST_PREPARED = 100

#: A data-modifying statement with a %s for each of the arrays that are its parameters, and their number.
Part = Tuple[str, int]


def text_of(prefix: str, parts: Sequence[Part], keeps: bool) -> str:
    """Return the statement, which gives the number of streams that were moved.

    ``prefix``: the quoted schema with a dot, or nothing. ``keeps``: it adds a row to the table of intents.
    """
    names = (*_MOVED, *_KEPT) if keeps else _MOVED
    own = {name: f"${at}::{type_}" for at, (name, type_) in enumerate(names, 1)}
    moved = (
        f"UPDATE {prefix}{CHECKPOINT} SET epoch = {own['epoch']}, ms = {own['ms']}, seq = {own['seq']}, "
        f"applied = applied + {own['rows']}, updated_at = CURRENT_TIMESTAMP "
        f"WHERE stream = {own['stream']} AND generation = {own['generation']} "
        f"AND (epoch, ms, seq) < ({own['epoch']}, {own['ms']}, {own['seq']}) RETURNING stream"
    )
    clauses = [f"moved AS ({moved})"]
    if keeps:
        columns = [name for name, _ in (*_POSITION, *_KEPT)]
        clauses.append(
            f"kept AS (INSERT INTO {prefix}{INTENTS} (stream, {', '.join(columns)}) "
            f"SELECT stream, {', '.join(own[name] for name in columns)} FROM moved)"
        )
    at = len(names)
    for number, (statement, arrays) in enumerate(parts):
        clauses.append(f"part{number} AS ({_placed(statement, at)})")
        at += arrays
    return f"WITH {', '.join(clauses)} SELECT count(*) FROM moved"


def _placed(statement: str, at: int) -> str:
    """Put places after ``at`` where a statement has ``%s``, and one percent sign where it has two."""
    numbers = itertools.count(at + 1)
    return re.sub("%([s%])", lambda found: "%" if found.group(1) == "%" else f"${next(numbers)}", statement)


class Parameters(NamedTuple):
    """The parameters of a statement, each with how it goes: as text, but for the record."""

    values: list[bytes]
    formats: list[pq.Format]


def parameters_of(
    claim: Claim, position: Position, rows: int, kept: Mapping[str, Any] | None, arrays: Sequence[bytes]
) -> Parameters:
    """Return the parameters; ``kept`` is a row of the table of intents, None: the statement adds none."""
    moved = (*position, rows, claim.stream, claim.generation)
    values = [str(value).encode() for value in moved]
    formats = [pq.Format.TEXT] * len(values)
    if kept is not None:
        values += [kept["previous"].encode(), kept["record"]]
        formats += [pq.Format.TEXT, pq.Format.BINARY]
    return Parameters([*values, *arrays], formats + [pq.Format.TEXT] * len(arrays))


class Statements:
    """Runs statements of groups on the connection that is there, prepared in its session."""

    def __init__(self) -> None:
        self._session: object = None
        self._names: dict[str, bytes] = {}
        # Behind a pooler the next statement may come to another session, in which nothing is prepared.
        self._prepares = True

    def run(self, connection: psycopg.Connection[Any], text: str, parameters: Parameters) -> int:
        """Return the number that the statement gives. Raises psycopg's errors."""
        values, formats = parameters
        name = self._name(connection, text) if self._prepares else None
        if name is not None:
            result = connection.pgconn.exec_prepared(name, values, formats)
            self._prepares = _state(result) != _NO_SUCH_STATEMENT
            if self._prepares:
                return _number(connection, result)
        result = connection.pgconn.exec_params(text.encode(), values, None, formats)
        return _number(connection, result)

    def _name(self, connection: psycopg.Connection[Any], text: str) -> bytes | None:
        """Return the name by which the session knows the statement; None: there are too many others."""
        if self._session is not connection:
            self._session = connection
            self._names.clear()
        name = self._names.get(text)
        if name is None and len(self._names) < MOST_PREPARED:
            # Nobody else's, also where a pooler gives one session to many: theirs would run with our values.
            name = f"gearsync_{uuid.uuid4().hex}".encode()
            _check(connection, connection.pgconn.prepare(name, text.encode()))
            self._names[text] = name
        return name


def _state(result: pq.abc.PGresult) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")


def _check(connection: psycopg.Connection[Any], result: pq.abc.PGresult) -> None:
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(result, connection.info.encoding)


def _number(connection: psycopg.Connection[Any], result: pq.abc.PGresult) -> int:
    _check(connection, result)
    return int(result.get_value(0, 0) or b"0")
