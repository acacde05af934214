"""From the changes of one batch to row operations: matched to functions, coalesced by key, converted.

The last image of a key wins. What coalescing must not lose is *how* the row got there: whether it was deleted
in between, or lost fields; ``fold`` keeps that in the operation, so that the rows are the same however the
changes fall into batches. Functions with a transform see every change, because a transform may drop one or
turn it to another row; so do histories, of which each change is a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from connectors import Position, Refusal, RowOp
from connectors.writing.blocks import Rows
from gears.applying import change as changes
from gears.applying import deadletters
from gears.applying.change import Change, Changes
from gears.applying.coalescing import NOTHING, adds_to, fold
from gears.applying.columns import Together
from gears.applying.conversion import Converter, RowFault
from gears.applying.deadletters import Fault, Letter
from gears.applying.matching import Matching
from gears.applying.owed import Chain, Owing, pay

NO_TRANSACTIONS: Mapping[bytes, str] = {}
NO_STATES = (*changes.MARKS, changes.REJECTED, changes.UNREAD)
NOWHERE = -1
SHOWN_BYTES = 100
"""How much of a field ``#`` that is no operation a reason repeats."""


def parts_of(all_changes: Sequence[Change]) -> list[Sequence[Change]]:
    """Cut where keys come from another shard: what stands before must not wait for what that shard owes."""
    if not any(meta[:1] == changes.CAME for meta in changes.metas_of(all_changes)):
        return [all_changes]
    parts: list[Sequence[Change]] = []
    start = 0
    for at, change in enumerate(all_changes):
        if change.op == changes.CAME and at > start and all_changes[at - 1].op != changes.CAME:
            parts.append(all_changes[start:at])
            start = at
    return [*parts, all_changes[start:]]


def merged(parts: Sequence[Batch]) -> Batch:
    """Return the last of the parts in which a batch went, with what is told of all of them."""
    last = parts[-1]
    last.refused = {entry_id: why for part in parts for entry_id, why in part.refused.items()}
    last.skipped = sum(part.skipped for part in parts)
    return last


class _Slot:
    """The latest state of one key for one function; ``at`` is the place of its change in the batch."""

    __slots__ = ("at", "converter", "op", "parts", "taken")

    def __init__(self, converter: Converter, parts: tuple[bytes, ...]) -> None:
        self.converter = converter
        self.parts = parts
        self.taken = 0
        self.clear()

    def clear(self) -> None:
        self.at = NOWHERE
        self.op = NOTHING


class _State(NamedTuple):
    """What a change is for one function: ``at``: where it stands; ``op``: its operation, with those before it
    of its ``chain``, which one row stands for.
    """

    chain: int
    at: int
    change: Change
    op: bytes


class Batch:
    """A prepared batch. ``rows`` are its operations in order, ``faults`` what was refused before SQL.

    ``position`` is where its last change stands; ``skipped`` counts changes that no function covers;
    ``marks`` are those of keys that left the shard, came to it, or may have been made anew on another.
    ``owing``: what its keys owe, which it pays.
    """

    def __init__(
        self, all_changes: Sequence[Change], converters: Sequence[Converter], owing: Owing | None = None
    ) -> None:
        self.changes = Changes.of(all_changes)
        self.converters = converters
        self.owing: Owing = owing or {}
        self.faults: list[tuple[Change, Fault]] = []
        self.skipped = 0
        self.marks: list[Change] = []
        #: What was refused when it was committed, by the id of the change; see ``letters_of``.
        self.refused: dict[str, str] = {}
        self.letters: Sequence[Letter] = ()
        self._matching = Matching(converters)
        self._slots: dict[bytes, list[_Slot]] = {}
        self._placed: list[tuple[int, RowOp]] = []
        #: The place of the last flush of each table that was cleared.
        self.cleared: dict[str, int] = {}
        self._by_key: dict[bytes, list[int]] | None = None
        together = Together(self.changes, self._matching, self.owing)
        self._counts = dict(together.taken)
        self.skipped += together.skipped
        for single in together.singles:
            self._make(*single)
        for at in together.others:
            self._take(at, self.changes[at])
        self._emit()
        # Two functions may write one row, and a flush clears what came before it: the lane's order matters.
        self.rows = Rows(together.blocks, self._placed)

    @property
    def position(self) -> Position:
        """The place of its last change in the lane."""
        last: Change = self.changes[-1]
        return last.position

    def counts(self) -> dict[str, int]:
        """Return how many changes each function had, those that are refused included."""
        counts = {each.function.name: self._counts.get(each.function.name, 0) for each in self.converters}
        for slots in self._slots.values():
            for slot in slots:
                counts[slot.converter.function.name] += slot.taken
        return counts

    # -- Taking changes in -------------------------------------------------------------------------------

    def _take(self, at: int, change: Change) -> None:
        op = change.op
        if op == changes.FLUSHED:
            self._flush(at, change)
            return
        if op in changes.MARKS:
            self.marks.append(change)
            return
        if op == changes.REJECTED:
            self._reject(change)
            return
        if op == changes.UNREAD:
            self._refuse(change, change.ticket.decode())
            return
        slots = self._slots.get(change.key)
        if slots is None:
            slots = [_Slot(*found) for found in self._matching.of_key(change.key)]
            self._slots[change.key] = slots
        if not slots:
            self.skipped += 1
        for slot in slots:
            slot.taken += 1
            if op in changes.GONE and slot.converter.keeps(op):
                continue
            if not slot.converter.coalesces:
                self._take_each(at, change, slot)
            elif op in changes.GONE and slot.converter.marks(op):
                self._mark(at, op, slot)
            else:
                if slot.at != NOWHERE and adds_to(change, self.changes[slot.at], slot.op):
                    self._place(slot)
                    slot.clear()
                slot.at = at
                slot.op = fold(slot.op, op)

    def _reject(self, change: Change) -> None:
        """The client meant something with the field ``#`` that nobody knows: nothing is guessed."""
        held = change.ticket[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        self._refuse(change, f"the field # holds {held!r}, which begins with none of the operations = + - ~")

    def _refuse(self, change: Change, reason: str) -> None:
        matching = [each for each in self.converters if each.match(change.key) is not None]
        self.faults += [(change, each.fault(reason)) for each in matching]
        for each in matching:
            self._counts[each.function.name] = self._counts.get(each.function.name, 0) + 1
        self.skipped += not matching

    def _mark(self, at: int, op: bytes, slot: _Slot) -> None:
        """The row stays, so that what it held counts; it is marked once, with the first time."""
        if slot.op in changes.GONE:
            return
        if slot.at != NOWHERE:
            self._place(slot)
        slot.at, slot.op = at, op

    def _take_each(self, at: int, change: Change, slot: _Slot) -> None:
        try:
            row = slot.converter.row(change, change.op, slot.parts)
        except RowFault as error:
            self.faults.append((change, error.fault))
            return
        if row is not None:
            self._put(at, row)

    def _put(self, at: int, row: RowOp) -> None:
        row.place = at
        self._placed.append((at, row))

    def _flush(self, at: int, change: Change) -> None:
        """Clear the tables whose mapping says so; what came before in this batch no longer matters."""
        clearing = {each.mapping.table: each for each in self.converters if each.mapping.on_flush == "delete"}
        for slots in self._slots.values():
            for slot in slots:
                if slot.converter.mapping.table in clearing:
                    slot.clear()
        self._placed = [(place, row) for place, row in self._placed if row.table not in clearing]
        for table, converter in sorted(clearing.items()):
            self._put(at, RowOp(table, "clear", origin=(change, converter, change.op)))
            self.cleared[table] = at

    # -- Giving rows out ---------------------------------------------------------------------------------

    def _emit(self) -> None:
        for slots in self._slots.values():
            for slot in slots:
                if slot.at != NOWHERE:
                    self._place(slot)

    def _place(self, slot: _Slot) -> None:
        self._make(slot.at, slot.op, slot.converter, slot.parts)

    def _make(self, at: int, op: bytes, converter: Converter, parts: tuple[bytes, ...]) -> None:
        change = self.changes[at]
        try:
            row = converter.row(change, op, parts)
        except RowFault:
            self._put_last_good(converter, parts, change)
        else:
            if row is not None:
                if change.key in self.owing:
                    self._pay(row, self._states(converter, change)[-1])
                self._put(at, row)

    def _pay(self, row: RowOp, state: _State) -> None:
        _, converter, _ = _origin(row)
        debt = self.owing.get(state.change.key, {}).get(converter.function.name)
        # What stands in a later chain comes behind a row that has paid.
        if debt is not None and state.chain == 0:
            pay(row, converter, debt)

    def _places(self, key: bytes) -> list[int]:
        if self._by_key is None:
            self._by_key = {}
            for at, each in enumerate(self.changes.keys()):
                self._by_key.setdefault(each, []).append(at)
        return self._by_key.get(key, [])

    def _states_of(self, converter: Converter, key: bytes) -> Iterator[_State]:
        """Yield what a key's changes are for one function, in their order."""
        chain, before, op = 0, None, NOTHING
        cleared = self.cleared.get(converter.mapping.table, NOWHERE)
        for at in self._places(key):
            change = self.changes[at]
            if at < cleared or change.op in NO_STATES:
                continue
            if change.op in changes.GONE and converter.keeps(change.op):
                continue
            marks = change.op in changes.GONE and converter.marks(change.op)
            if marks and op in changes.GONE:
                continue
            if before is not None and (marks or adds_to(change, before, op)):
                chain, op = chain + 1, NOTHING
            before, op = change, fold(op, change.op)
            yield _State(chain, at, change, op)

    def _states(self, converter: Converter, last: Change) -> list[_State]:
        """Return the states that a row stands for, up to ``last``."""
        states: list[_State] = []
        for state in self._states_of(converter, last.key):
            if states and state.chain != states[-1].chain:
                states = []
            states.append(state)
            if state.change is last:
                break
        return states

    def chains(self, converter: Converter, key: bytes) -> Iterator[Chain]:
        """Yield the changes of a key by the rows that stand for them; see ``gears.applying.owed``."""
        for _, group in groupby(self._states_of(converter, key), lambda state: state.chain):
            states = list(group)
            yield states[0].at, [state.change for state in states]

    def _put_last_good(self, converter: Converter, parts: tuple[bytes, ...], last: Change) -> None:
        """The last image of a row is refused: take the one before it that is not, where that one stands."""
        for state in reversed(self._states(converter, last)):
            try:
                row = converter.row(state.change, state.op, parts)
            except RowFault as error:
                self.faults.append((state.change, error.fault))
            else:
                if row is not None:
                    self._pay(row, state)
                    self._put(state.at, row)
                return

    def earlier(self, row: RowOp) -> list[RowOp]:
        """Return the rows of the key's states before ``row``, in order: it is refused itself."""
        change, converter, _ = _origin(row)
        parts = converter.match(change.key)
        if not converter.coalesces or parts is None:
            return []
        rows = []
        for state in self._states(converter, change)[:-1]:
            try:
                candidate = converter.row(state.change, state.op, parts)
            except RowFault as error:
                self.faults.append((state.change, error.fault))
            else:
                if candidate is not None:
                    self._pay(candidate, state)
                    candidate.place = state.at
                    rows.append(candidate)
        return rows


def _origin(row: RowOp) -> tuple[Change, Converter, bytes]:
    origin = row.origin
    assert isinstance(origin, tuple)  # noqa: S101 (for mypy)
    change, converter, op = origin
    return change, converter, op


def faults_of(refusals: Sequence[Refusal]) -> list[tuple[Change, Fault]]:
    """Return what the database refused as faults of changes."""
    found = []
    for refusal in refusals:
        change, converter, _ = _origin(refusal.row)
        found.append((change, converter.refused(refusal.reason, refusal.column)))
    return found


def letters_of(
    faults: Sequence[tuple[Change, Fault]], transactions: Mapping[bytes, str] = NO_TRANSACTIONS
) -> list[Letter]:
    """Gather faults by change; returns their letters in the order of the ids, as a stream wants them.

    ``transactions``: the ids of those that are refused whole, by entry id of their changes.
    """
    by_position: dict[Position, tuple[Change, list[Fault]]] = {}
    for change, fault in faults:
        by_position.setdefault(change.position, (change, []))[1].append(fault)
    ordered = sorted(by_position, key=lambda position: (position.ms, position.seq, position.epoch))
    return [
        deadletters.of_change(change, found, transactions.get(change.entry_id, ""))
        for change, found in (by_position[position] for position in ordered)
    ]
