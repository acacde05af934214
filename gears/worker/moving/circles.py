"""Lanes that wait for each other in a circle, because one of them waits for the wrong mark.

A promotion can lose the mark of a key that left, and a shard that is started anew in the midst of a slot's
move puts its own mark twice. Whoever waits for such a mark goes on once no shard has it. But by then the key
may have come a second time. To do so it had to leave, through the very lane that waits: so the mark of its
second move, which bears the same token, stands behind what that lane has yet to give, and comes never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Mark(NamedTuple):
    """A mark in a lane: whether its key came, else it left; the id of its entry, and the time in that, ms."""

    came: bool
    token: str
    entry_id: str

    @property
    def ms(self) -> int:
        """When it was put, by the clock of the shard of then."""
        return int(self.entry_id.partition("-")[0])


class Link(NamedTuple):
    """One lane of a circle: it stands at ``waits`` for a token that only ``gives`` will bring."""

    waits: Mark
    gives: Mark

    @property
    def late(self) -> int:
        """How much later than the mark that waits for it the other one was put, ms: it is the wrong one."""
        return self.gives.ms - self.waits.ms


def circle(lanes: Mapping[str, Sequence[Mark]], given: Counter[str], own: str) -> list[Link]:
    """Return the circle in which the lane ``own`` stands, beginning with it; empty: it will go on.

    ``lanes``: the marks that wait in each, in their order. ``given``: how often each token is there
    by now.
    """
    at = _stand(lanes, given)
    links: list[Link] = []
    lane, passed = own, set()
    while lane not in passed:
        passed.add(lane)
        if at[lane] == len(lanes[lane]):
            return []
        waits = lanes[lane][at[lane]]
        candidates = [
            (mark.ms, name, mark)
            for name, marks in lanes.items()
            for mark in marks[at[name] :]
            if not mark.came and mark.token == waits.token
        ]
        _, lane, gives = min(candidates)
        links.append(Link(waits, gives))
    return links if lane == own else []


def wrong(links: Sequence[Link]) -> Link:
    """Return the link of a circle that is the wrong one.

    Each mark that gives stands behind the one that waits in its lane, so that the differences in time make at
    least zero together, whatever the shards' clocks say; and marks that belong together were put at once, or
    the one that gives before the other.
    """
    return max(links, key=lambda link: (link.late, link.waits))


def _stand(lanes: Mapping[str, Sequence[Mark]], given: Counter[str]) -> dict[str, int]:
    """Return how far each lane can go. One that waits for what nobody has goes on, sooner or later."""
    tokens = given.copy()
    ahead = Counter(mark.token for marks in lanes.values() for mark in marks if not mark.came)
    at = dict.fromkeys(lanes, 0)
    goes_on = True
    while goes_on:
        goes_on = False
        for lane, marks in lanes.items():
            start = at[lane]
            while at[lane] < len(marks):
                mark = marks[at[lane]]
                if not mark.came:
                    tokens[mark.token] += 1
                    ahead[mark.token] -= 1
                elif tokens[mark.token]:
                    tokens[mark.token] -= 1
                elif ahead[mark.token]:
                    break
                at[lane] += 1
            goes_on = goes_on or at[lane] > start
    return at
