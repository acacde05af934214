"""Tells apart what of a lane is to be applied now, and what is held back for functions that are paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors import Position
from gears.applying import change as changes
from gears.applying.change import Change, is_applied, parsed_id
from gears.applying.rules import Rules, cut
from gears.declaring.functions import Function
from gears.worker.holds import Held
from gears.worker.lanes import Reading


class Sieve:
    """Of one session of a lane. ``positions``: how far the functions of ``held`` are applied, by stream, and
    ``position``: how far all others are; ``rules``: those of versions before, and the present ones, of all
    functions. A function that is resumed and has at most ``most`` changes left is to go on with the lane:
    then nothing is applied beyond those.
    """

    def __init__(
        self,
        held: Sequence[Held],
        positions: Mapping[str, Position],
        position: Position,
        rules: Sequence[Rules],
        most: int,
    ) -> None:
        self._position = position
        self._held = held
        self._positions = positions
        self._rules = rules
        self._closing = [each for each in held if not each.paused and each.length <= most]
        self.closes = frozenset(each.stream for each in self._closing)

    def sift(self, all_changes: Sequence[Change]) -> tuple[list[Change], dict[str, list[bytes]]]:
        """Return the changes that other functions have, and the ids of what is held, by stream."""
        kept: list[Change] = []
        taken: dict[str, list[bytes]] = {each.stream: [] for each in self._held}
        for part in cut([all_changes], self._rules[:-1]):
            if not part:
                continue
            functions = next(each for each in self._rules if each.covers(part[0].position)).functions
            named = {function.name: function for function in functions}
            held = [(each.stream, named[each.function]) for each in self._held if each.function in named]
            names = {function.name for _, function in held}
            others = [function for function in functions if function.name not in names]
            for change in part:
                takers = [stream for stream, function in held if _has(function, change)]
                if not takers:
                    kept.append(change)
                    continue
                for stream in takers:
                    if not is_applied(change, self._positions[stream]):
                        taken[stream].append(change.entry_id)
                if any(_has(function, change) for function in others):
                    kept.append(_without_ticket(change))
        return kept, taken

    def covers(self, change: Change) -> bool:
        """Whether a change may be among those that a function which is to go on has had."""
        if is_applied(change, self._position):
            return True
        return any(
            is_applied(change, self._positions[each.stream]) or parsed_id(change.id) <= each.last
            for each in self._closing
        )

    def cut(self, read: Reading) -> bool:
        """Take off what comes behind the changes that ``covers`` tells; whether there is any."""
        return bool(self._closing) and read.cut(self.covers)


def _has(function: Function, change: Change) -> bool:
    """Whether a change is one of a function. Marks of keys that move are nobody's."""
    if change.op == changes.FLUSHED:
        return function.mapping.on_flush == "delete"
    if change.op in changes.MARKS:
        return False
    return function.mapping.keys.match(change.key) is not None


def _without_ticket(change: Change) -> Change:
    """Who asked for an acknowledgment gets it when the function that is held has the change."""
    if change.op == changes.REJECTED or b":" not in change.meta:
        return change
    return change._replace(meta=change.meta.partition(b":")[0])
