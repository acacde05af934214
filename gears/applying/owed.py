"""What keys owe: the columns that a refused write would have emptied (docs/design.md, "Refused rows").

A later write of the key only brings what its hash has. So that the row is what Redis has once one of them is
in, that one empties what was owed as well; SQL remembers it until then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Callable, Dict, NamedTuple, Sequence, Tuple

from connectors import Connector, RowOp
from connectors.bookkeeping import recall
from connectors.bookkeeping.letters import NO_DEBTS, Debts
from gears.applying import change as changes
from gears.applying.change import Change, Changes
from gears.applying.conversion import Converter
from gears.applying.deadletters import Letter
from gears.declaring import kinds
from gears.declaring.functions import Function
from gears.declaring.patterns import Through

_EMPTYING = (changes.REMOVED, changes.REPLACED, *changes.GONE)


class Debt(NamedTuple):
    """The columns that a row's next upsert has to set to NULL, and to their defaults, if it has no value."""

    nulls: tuple[str, ...]
    defaults: tuple[str, ...]


NOTHING = Debt((), ())

Owing = Dict[bytes, Dict[str, Debt]]
"""Debts by key and function."""
Settlement = Dict[Tuple[bytes, str], Debt]
"""What of that is another debt by now, or NOTHING."""
Chain = Tuple[int, Sequence[Change]]
"""Changes of a key in a batch of which a later one makes up for what an earlier one owes, if that is refused,
and before which place a batch would have to end for them to know what was owed before.
"""


class Parted(Exception):
    """What is owed, and what would pay it, are in one batch: it is to be applied in two, cut at ``at``."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def can_owe(function: Function) -> bool:
    """Whether debts of a function are known.

    A client whose write is refused is told. What has no fields, or a row for each change, is whole in any
    case. And what a transform leaves out it may mean to.
    """
    mapping = function.mapping
    is_plain = mapping.type == kinds.HASH and not mapping.additions.history
    return is_plain and function.transform_name is None and not isinstance(function.pattern, Through)


def pay(row: RowOp, converter: Converter, debt: Debt) -> None:
    """Have a row operation bring what its key owes."""
    if row.kind != "upsert":
        return
    # A later version may have other columns.
    left = set(converter.mapping.columns.values()).difference(row.columns, row.nulls, row.defaults)
    row.nulls += tuple(name for name in debt.nulls if name in left)
    row.defaults += tuple(name for name in debt.defaults if name in left)


class Owed:
    """The debts of one lane, as SQL has them by now, as far as they are of ``functions``."""

    def __init__(self, lane: str, functions: Iterable[Function]) -> None:
        self._lane = lane
        self._names = {each.name for each in functions if can_owe(each)}
        self._known: dict[bytes, dict[str, Debt]] = {}

    def load(self, connector: Connector) -> None:
        """Ask SQL for them. Raises what the connector raises."""
        self._known = {}
        # Most of many are alike.
        alike: dict[Debt, Debt] = {}
        for record in recall.owed(connector, self._lane) if self._names else ():
            key, name, debt = _read(record)
            if name in self._names:
                self._known.setdefault(key, {})[name] = alike.setdefault(debt, debt)

    def of(self, all_changes: Changes) -> Owing:
        """Return what the keys of changes owe."""
        if not self._known:
            return {}
        return {key: self._known[key] for key in set(all_changes.keys()) if key in self._known}

    def after(
        self,
        owing: Owing,
        letters: Sequence[Letter],
        converters: Sequence[Converter],
        chains: Callable[[Converter, bytes], Iterable[Chain]],
        cleared: Mapping[str, int],
    ) -> Settlement:
        """Return what is owed after a batch.

        ``owing``: what its keys owed before; ``letters``: of what of it is refused; ``chains``: those of a
        function and key, the first of which has paid what was owed; ``cleared``: tables that it has emptied.

        Raises Parted.
        """
        refused = {(letter.id, name) for letter in letters for name in letter.functions}
        lost = {name for each in letters if each.fields["op"] == changes.FLUSHED for name in each.functions}
        found: Settlement = {}
        emptied = set()
        for each in converters if cleared else ():
            name = each.function.name
            if each.mapping.on_flush == "delete" and each.mapping.table in cleared and name not in lost:
                emptied.add(name)
        for key, debts in self._known.items() if emptied else ():
            found.update(((key, name), NOTHING) for name in debts if name in emptied)
        keys = dict.fromkeys(each.fields["key"] for each in letters if each.fields["op"] in _EMPTYING)
        cuts = []
        for key in {**keys, **owing}:
            for converter in converters:
                name, parts = converter.function.name, converter.match(key)
                if parts is None or name not in self._names:
                    continue
                before = NOTHING if name in emptied else owing.get(key, {}).get(name, NOTHING)
                after, at = _walked(before, chains(converter, key), converter, parts, refused)
                cuts += [at] if at else []
                found[key, name] = after
        if cuts:
            raise Parted(min(cuts))
        return {at: debt for at, debt in found.items() if debt != self._debt(*at)}

    def _debt(self, key: bytes, name: str) -> Debt:
        return self._known.get(key, {}).get(name, NOTHING)

    def rows(self, settlement: Settlement) -> Debts:
        """Return what SQL has to write down of it."""
        if not settlement:
            return NO_DEBTS
        owed = {_digest(*at): _record(*at, debt) for at, debt in settlement.items() if debt != NOTHING}
        return Debts(self._lane, owed, [_digest(*at) for at, debt in settlement.items() if debt == NOTHING])

    def note(self, settlement: Settlement) -> None:
        """It is in SQL."""
        for (key, name), debt in settlement.items():
            of_key = self._known.setdefault(key, {})
            if debt == NOTHING:
                of_key.pop(name, None)
            else:
                of_key[name] = debt
            if not of_key:
                del self._known[key]


def _walked(
    debt: Debt,
    chains: Iterable[Chain],
    converter: Converter,
    parts: tuple[bytes, ...],
    refused: set[tuple[str, str]],
) -> tuple[Debt, int]:
    """Return what a key owes after a batch, and where that is to be cut first (0: nowhere)."""
    name = converter.function.name
    for number, (at, chain) in enumerate(chains):
        applied = [index for index, change in enumerate(chain) if (change.id, name) not in refused]
        if applied and number and debt != NOTHING:
            return debt, at
        if applied:
            debt = NOTHING
        for change in chain[applied[-1] + 1 :] if applied else chain:
            debt = _both(debt, Debt(*map(tuple, converter.removed(change, parts))))
    return debt, 0


def _both(before: Debt, after: Debt) -> Debt:
    nulls = [name for name in before.nulls if name not in after.defaults]
    defaults = [name for name in before.defaults if name not in after.nulls]
    return Debt(
        tuple(dict.fromkeys((*nulls, *after.nulls))), tuple(dict.fromkeys((*defaults, *after.defaults)))
    )


def _digest(key: bytes, name: str) -> bytes:
    return hashlib.blake2b(name.encode() + b"\0" + key, digest_size=16).digest()


def _record(key: bytes, name: str, debt: Debt) -> bytes:
    return json.dumps([key.decode("latin-1"), name, debt.nulls, debt.defaults]).encode()


def _read(record: bytes) -> tuple[bytes, str, Debt]:
    key, name, nulls, defaults = json.loads(record.decode())
    return key.encode("latin-1"), name, Debt(tuple(nulls), tuple(defaults))
