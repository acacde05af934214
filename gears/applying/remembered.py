"""Dead letters that SQL remembers, so that Redis can have them again (docs/design.md, "Refused rows")."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from connectors import Claim, Connector, Position
from connectors.bookkeeping import recall
from connectors.bookkeeping.letters import Remembered
from gears.applying import deadletters
from gears.applying.change import Change
from gears.applying.deadletters import Letter

KEEP_SECONDS = 7200.0
"""How long SQL remembers letters: longer than what a Redis without an AOF forgets as it is configured at
first (``save 3600 1``), and than a replica may be cut off that Sentinel or a cluster promotes by itself."""
PRUNE_SECONDS = 60.0
REASON_BYTES = 8000
"""The most of a reason that is remembered."""

_NAMES = ("op", "reason", "functions", "table", "column", "at", "transaction")


def remembered(letters: Sequence[Letter], entries: Sequence[str]) -> list[Remembered]:
    """Return what SQL is to remember of letters of changes, which have these ids in Redis."""
    return [_remembered(letter, entry) for letter, entry in zip(letters, entries)]


def _remembered(letter: Letter, entry: str) -> Remembered:
    texts = {name: letter.fields[name].decode() for name in _NAMES if name in letter.fields}
    if len(letter.fields["reason"]) > REASON_BYTES:
        texts["reason"] = letter.fields["reason"][:REASON_BYTES].decode("utf-8", "ignore") + "…"
    ms, _, seq = letter.id.partition("-")
    position = Position(int(letter.fields["epoch"]), int(ms), int(seq))
    return Remembered(position, entry, int(letter.fields["at"]), json.dumps(texts).encode())


def letter_of(change: Change, row: Remembered) -> Letter:
    """Return the letter of a change as it was."""
    return deadletters.again(change, json.loads(row.record.decode()), row.entry)


def put_again(
    connector: Connector,
    claim: Claim,
    pages: Iterable[Sequence[Change]],
    bury: Callable[[str, Sequence[Letter]], Sequence[str]],
    is_known: Callable[[str], bool] = lambda stream: True,
) -> None:
    """Have letters of a lane put again that Redis has forgotten.

    ``pages``: the changes at its head that SQL has, in their order. ``bury`` stores letters of a stream as
    ``deadletters.store`` does; ``is_known`` tells whether Redis has what was held back there. If not, their
    letters go to those of the lane.
    """
    newest: Position | None = None
    for page in pages:
        newest = newest or recall.newest(connector, claim.stream)
        if newest is None or page[0].position > newest:
            return
        changes = {each.position: each for each in page}
        rows = recall.between(connector, claim.stream, page[0].position, page[-1].position)
        for stream, group in groupby(rows, lambda row: row.stream):
            found = [row for row in group if row.position in changes]
            if found and is_known(stream):
                letters = [letter_of(changes[row.position], row) for row in found]
                entries = bury(stream, letters)
                moved = [
                    row._replace(entry=entry) for row, entry in zip(found, entries) if row.entry != entry
                ]
                if moved:
                    recall.move(connector, claim, moved)
            elif found:
                # Their ids are of another stream, so that they tell nothing.
                bury(
                    claim.stream, [letter_of(changes[row.position], row._replace(entry="")) for row in found]
                )


class Pruning:
    """Forgets old letters, now and then."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._pruned = 0.0

    def step(self, stream: str) -> None:
        """Forget what is too old of a stream, unless that was just done. Raises what the connector raises."""
        now = time.monotonic()
        if not self._pruned or now - self._pruned > PRUNE_SECONDS:
            self._pruned = now
            before, gone = (int((time.time() - times * KEEP_SECONDS) * 1000) for times in (1, 2))
            recall.prune(self._connector, stream, before, gone)
