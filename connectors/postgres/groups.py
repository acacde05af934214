"""A group of waiting clients' writes as one statement: PostgreSQL commits it by itself, in one round trip.

The checkpoint is moved first, and all else hangs on that: where another worker owns the stream, nothing is
written. Rows of several tables and of several shapes are further parts of the same statement, because no row
is in two of them.

The statement is prepared, for it takes PostgreSQL longer to read and plan it than to do it.
"""

from __future__ import annotations

import itertools
import re
import uuid
from typing import Any, Sequence, Tuple

import psycopg
from psycopg import pq

from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.bookkeeping.intents import TABLE_NAME as INTENTS
from connectors.rows import Claim

#: What each part hangs on.
CONDITION = "WHERE EXISTS (SELECT FROM moved)"

_KEPT = (("epoch", "bigint"), ("ms", "bigint"), ("seq", "bigint"), ("previous", "text"), ("record", "bytea"))
_OWN = (*_KEPT, ("rows", "bigint"), ("stream", "text"), ("generation", "bigint"))
#: The parameters are texts but for the record.
_OWN_FORMATS = [pq.Format.BINARY if type_ == "bytea" else pq.Format.TEXT for _, type_ in _OWN]

_NO_SUCH_STATEMENT = "26000"
MOST_PREPARED = 100

#: A data-modifying statement with a %s for each of the arrays that are its parameters, and their number.
Part = Tuple[str, int]


def text_of(prefix: str, parts: Sequence[Part]) -> str:
    """Return the statement, which gives the number of streams that were moved.

    ``prefix``: the quoted schema with a dot, or nothing.
    """
    own = {name: f"${at}::{type_}" for at, (name, type_) in enumerate(_OWN, 1)}
    moved = (
        f"UPDATE {prefix}{CHECKPOINT} SET epoch = {own['epoch']}, ms = {own['ms']}, seq = {own['seq']}, "
        f"applied = applied + {own['rows']}, updated_at = CURRENT_TIMESTAMP "
        f"WHERE stream = {own['stream']} AND generation = {own['generation']} "
        f"AND (epoch, ms, seq) < ({own['epoch']}, {own['ms']}, {own['seq']}) RETURNING stream"
    )
    names, values = zip(*((name, own[name]) for name, _ in _KEPT))
    kept = (
        f"INSERT INTO {prefix}{INTENTS} (stream, {', '.join(names)}) "
        f"SELECT stream, {', '.join(values)} FROM moved"
    )
    clauses = [f"moved AS ({moved})", f"kept AS ({kept})"]
    at = len(_OWN)
    for number, (statement, arrays) in enumerate(parts):
        clauses.append(f"part{number} AS ({_placed(statement, at)})")
        at += arrays
    return f"WITH {', '.join(clauses)} SELECT count(*) FROM moved"


def _placed(statement: str, at: int) -> str:
    """Put places after ``at`` where a statement has ``%s``, and one percent sign where it has two."""
    numbers = itertools.count(at + 1)
    return re.sub("%([s%])", lambda found: "%" if found.group(1) == "%" else f"${next(numbers)}", statement)


def parameters_of(claim: Claim, rows: int, kept: dict[str, Any], arrays: Sequence[bytes]) -> list[bytes]:
    """Return the parameters; ``kept`` is a row of the table of intents."""
    own = {**kept, "rows": rows, "generation": claim.generation}
    values = (own[name] for name, _ in _OWN)
    return [value if isinstance(value, bytes) else str(value).encode() for value in values] + list(arrays)


class Statements:
    """Runs statements of groups on the connection that is there, prepared in its session."""

    def __init__(self) -> None:
        self._session: object = None
        self._names: dict[str, bytes] = {}
        # Behind a pooler the next statement may come to another session, in which nothing is prepared.
        self._prepares = True

    def run(self, connection: psycopg.Connection[Any], text: str, parameters: Sequence[bytes]) -> int:
        """Return the number that the statement gives. Raises psycopg's errors."""
        formats = [*_OWN_FORMATS, *([pq.Format.TEXT] * (len(parameters) - len(_OWN_FORMATS)))]
        name = self._name(connection, text) if self._prepares else None
        if name is not None:
            result = connection.pgconn.exec_prepared(name, parameters, formats)
            self._prepares = _state(result) != _NO_SUCH_STATEMENT
            if self._prepares:
                return _number(connection, result)
        result = connection.pgconn.exec_params(text.encode(), parameters, None, formats)
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
