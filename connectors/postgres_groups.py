"""A group of waiting clients' writes as one statement: PostgreSQL commits it by itself, in one round trip.

The checkpoint is moved first, and all else hangs on that: where another worker owns the stream, nothing is
written. Rows of several tables and of several shapes are further parts of the same statement, because no row
is in two of them.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

from connectors.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.intents import TABLE_NAME as INTENTS
from connectors.rows import Claim

#: What each part hangs on.
CONDITION = "WHERE EXISTS (SELECT FROM moved)"

_KEPT = ("epoch", "ms", "seq", "previous", "record")

#: A data-modifying statement, with a %s for each of the arrays that are its parameters.
Part = Tuple[str, Sequence[str]]


def text_of(prefix: str, parts: Sequence[Part]) -> str:
    """Return the statement, which gives the number of streams that were moved.

    ``prefix``: the quoted schema with a dot, or nothing.
    """
    moved = (
        f"UPDATE {prefix}{CHECKPOINT} SET epoch = %(epoch)s, ms = %(ms)s, seq = %(seq)s, "
        "applied = applied + %(rows)s, updated_at = CURRENT_TIMESTAMP "
        "WHERE stream = %(stream)s AND generation = %(generation)s "
        "AND (epoch, ms, seq) < (%(epoch)s, %(ms)s, %(seq)s) RETURNING stream"
    )
    values = ", ".join(f"%({name})s" for name in _KEPT)
    kept = f"INSERT INTO {prefix}{INTENTS} (stream, {', '.join(_KEPT)}) SELECT stream, {values} FROM moved"
    clauses = [f"moved AS ({moved})", f"kept AS ({kept})"]
    for number, (statement, arrays) in enumerate(parts):
        places = tuple(f"%(a{number}_{at})s" for at in range(len(arrays)))
        clauses.append(f"part{number} AS ({_placed(statement, places)})")
    return f"WITH {', '.join(clauses)} SELECT count(*) FROM moved"


def _placed(statement: str, places: Sequence[str]) -> str:
    """Put names where a statement has ``%s``; a doubled percent sign stays one."""
    pieces = statement.split("%s")
    return "".join(piece + place for piece, place in zip(pieces, [*places, ""]))


def parameters_of(claim: Claim, rows: int, kept: dict[str, Any], parts: Sequence[Part]) -> dict[str, Any]:
    """Return the parameters; ``kept`` is a row of the table of intents."""
    found: dict[str, Any] = {**kept, "rows": rows, "generation": claim.generation}
    for number, (_, arrays) in enumerate(parts):
        for at, array in enumerate(arrays):
            found[f"a{number}_{at}"] = array
    return found
