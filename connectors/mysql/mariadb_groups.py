"""A group of waiting clients' writes as one compound statement of MariaDB: one round trip, one transaction.

MySQL has no such statements outside of stored procedures; there a group takes several round trips.
"""

from __future__ import annotations

from typing import Sequence

from connectors.bookkeeping.checkpoint import TABLE_NAME as CHECKPOINT
from connectors.rows import Claim, Position

#: What the statement says when another worker owns the stream, or the position is not ahead.
NOT_MOVED = "gearsync: the checkpoint was not moved"


def compound(prefix: str, claim: Claim, position: Position, rows: int, statements: Sequence[str]) -> str:
    """Return the text that moves the checkpoint, runs ``statements`` and commits; or fails with nothing done.

    ``prefix``: the quoted schema with a dot, or nothing. The claim's stream is ASCII without quotes.
    """
    epoch, ms, seq = position
    behind = f"(epoch < {epoch} OR epoch = {epoch} AND (ms < {ms} OR ms = {ms} AND seq < {seq}))"
    move = (
        f"UPDATE {prefix}{CHECKPOINT} SET epoch = {epoch}, ms = {ms}, seq = {seq}, "
        f"applied = applied + {rows}, updated_at = CURRENT_TIMESTAMP WHERE stream = '{claim.stream}' "
        f"AND generation = {claim.generation} AND {behind}"
    )
    lines = [
        "BEGIN NOT ATOMIC",
        "DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "START TRANSACTION",
        move,
        f"IF ROW_COUNT() <> 1 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{NOT_MOVED}'; END IF",
        *statements,
        "COMMIT",
        "END",
    ]
    return lines[0] + " " + "; ".join(lines[1:])
