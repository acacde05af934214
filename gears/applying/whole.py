"""Transactions that stay whole: which changes belong together, and what becomes of them when one is refused.

As long as the database takes a batch there is nothing to do: a batch holds whole transactions, and is one
SQL transaction. When something is refused, the transactions of the batch are applied one after another, as
they were in Redis, and those that the database refuses, or that can't be rows, are left out with all that
they changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors import Refusal, RowOp
from connectors.writing.units import Unit
from gears.applying import change as changes
from gears.applying.change import Change
from gears.applying.conversion import Converter
from gears.applying.deadletters import Fault, Letter
from gears.applying.owed import Chain
from gears.applying.pipeline import Batch, faults_of, letters_of


def transactions_of(all_changes: Sequence[Change]) -> list[list[Change]]:
    """Return the changes by transaction; most have one change."""
    found: list[list[Change]] = []
    for change in all_changes:
        if found and change.goes_on:
            found[-1].append(change)
        else:
            found.append([change])
    return found


class Apart:
    """The transactions of a batch that does not go in as it is.

    ``units``: the rows of each transaction that can be rows; ``rows``: those of all of them together.
    """

    def __init__(self, batch: Batch) -> None:
        self._converters = batch.converters
        self._transactions = transactions_of(batch.changes)
        self._faults: list[tuple[Change, Fault]] = []
        self._alone: list[Batch] = []
        self.units: list[Unit] = []
        sound: list[Change] = []
        unpaid = dict(batch.owing)
        for transaction in self._transactions:
            # Only the first one of a key pays what that owes: if it is refused, the batch is parted.
            owing = {each.key: unpaid.pop(each.key) for each in transaction if each.key in unpaid}
            alone = Batch(transaction, self._converters, owing)
            self._alone.append(alone)
            self._faults += alone.faults
            if not alone.faults:
                self.units.append(alone.rows)
                sound += transaction
        self.rows = Batch(sound, self._converters, batch.owing).rows if sound else []

    def chains(self, converter: Converter, key: bytes) -> Iterator[Chain]:
        """Yield the changes of a key by transaction; see ``gears.applying.owed``."""
        begin = 0
        for alone in self._alone:
            for _, chain in alone.chains(converter, key):
                yield begin, chain
            begin += len(alone.changes)

    def letters(self, refusals: Sequence[Refusal]) -> list[Letter]:
        """Return the letters of all changes of the transactions that are left out."""
        refused: dict[bytes, list[tuple[Change, Fault]]] = {}
        for change, fault in [*self._faults, *faults_of(refusals)]:
            refused.setdefault(change.entry_id, []).append((change, fault))
        faults: list[tuple[Change, Fault]] = []
        named: dict[bytes, str] = {}
        for transaction in self._transactions:
            own = [pair for change in transaction for pair in refused.get(change.entry_id, ())]
            faults += own
            if own and len(transaction) > 1:
                named.update((change.entry_id, transaction[0].id) for change in transaction)
                faults += self._taken_along(transaction, own)
        return letters_of(faults, named)

    def _taken_along(
        self, transaction: Sequence[Change], own: Sequence[tuple[Change, Fault]]
    ) -> Iterator[tuple[Change, Fault]]:
        """Yield a fault for each row that is left out because another of its transaction is refused."""
        culprit, why = own[0]
        key = culprit.key.decode("utf-8", "backslashreplace")
        reason = f"its transaction is left out whole, because {key} in it is refused: {why.reason}"
        known = {(change.entry_id, fault.function) for change, fault in own}
        for change in transaction:
            for converter in self._converters:
                is_known = (change.entry_id, converter.function.name) in known
                if not is_known and _changes_a_row(converter, change):
                    yield change, converter.fault(reason)


def _changes_a_row(converter: Converter, change: Change) -> bool:
    if change.op == changes.FLUSHED:
        return converter.mapping.on_flush == "delete"
    if change.op in changes.MARKS or (change.op in changes.GONE and converter.keeps(change.op)):
        return False
    return converter.match(change.key) is not None


class Outcome:
    """What is left out of a batch, row by row, or by whole transactions if it has such."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._apart = self._take_apart() if batch.faults else None

    @property
    def rows(self) -> Sequence[RowOp]:
        """What is given to the database first."""
        return self._batch.rows if self._apart is None else self._apart.rows

    def units(self) -> Sequence[Unit] | None:
        """Return the rows by transaction, when the database refuses some; None: they are on their own."""
        self._apart = self._apart or self._take_apart()
        return None if self._apart is None else self._apart.units

    def letters(self, refusals: Sequence[Refusal]) -> list[Letter]:
        """Return the letters of what is left out; ``refusals``: by the database."""
        if self._apart is not None:
            return self._apart.letters(refusals)
        return letters_of(self._batch.faults + faults_of(refusals))

    def chains(self, converter: Converter, key: bytes) -> Iterator[Chain]:
        """Yield the changes of a key by what goes in, or is refused, alone."""
        return (self._batch if self._apart is None else self._apart).chains(converter, key)

    def _take_apart(self) -> Apart | None:
        found = any(change.goes_on for change in self._batch.changes)
        return Apart(self._batch) if found else None
