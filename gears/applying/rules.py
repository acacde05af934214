"""By which version's functions the changes of a lane are applied: those before an upgrade by theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from connectors import Position
from gears.applying.change import Change
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function, Transform


class Rules(NamedTuple):
    """By what functions the changes up to and with ``upto`` are applied; None: all that follow.

    ``upto`` is of an entry in the stream: milliseconds and sequence, which grow along it.
    """

    version: int
    upto: tuple[int, int] | None
    functions: Sequence[Function]
    transforms: Mapping[str, Transform]
    signature: Sequence[Any] = ()
    """What tells whether two do the same."""

    def covers(self, position: Position) -> bool:
        """Whether a change there is to be applied by these rules, or by earlier ones."""
        return self.upto is None or (position.ms, position.seq) <= self.upto

    def goes_on_after(self, position: Position) -> bool:
        """Whether a later change may be applied by these rules too."""
        return self.upto is None or (position.ms, position.seq) < self.upto


def of_target(deployment: Deployment, target: str) -> list[Function]:
    """Return the functions that bring writes to a target."""
    return [each for each in deployment.capturing if each.target_name == target]


def only(rules: Rules, wanted: Callable[[Function], bool] | None) -> Rules:
    """Return rules with those functions that are wanted; None: all are."""
    if wanted is None:
        return rules
    return rules._replace(functions=[each for each in rules.functions if wanted(each)])


def cut(parts: Sequence[Sequence[Change]], rules: Sequence[Rules]) -> list[Sequence[Change]]:
    """Cut parts further, where the changes of one version end and those of the next begin."""
    found = list(parts)
    for each in rules:
        found = [part for whole in found for part in _cut_one(whole, each)]
    return found


def _cut_one(whole: Sequence[Change], rules: Rules) -> list[Sequence[Change]]:
    if not whole or rules.covers(whole[-1].position) or not rules.covers(whole[0].position):
        return [whole]
    at = next(at for at, change in enumerate(whole) if not rules.covers(change.position))
    return [whole[:at], whole[at:]]
