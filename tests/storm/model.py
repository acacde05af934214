"""What a client knows of its own keys: what each must be at the end, whatever happened meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

State = tuple[tuple[str, str], ...]
"""The fields of a hash, sorted; empty: there is none."""

Command = tuple[object, ...]

GONE: State = ()
OK, REFUSED, LOST = "ok", "refused", "lost"
"""The write was answered; it was answered with an error, so that nothing was done; nobody knows."""


@dataclass(frozen=True)
class Act:
    """A write of one client: several ``commands`` are one MULTI.

    ``after``: what each own key is when it was done. ``last``: nobody writes these keys again, because they
    end by themselves or are never to reach SQL. ``poison``: the key whose change the database must refuse.
    """

    kind: str
    commands: tuple[Command, ...]
    after: Mapping[str, State] = field(default_factory=dict)
    last: bool = False
    poison: str = ""
    counter: str = ""


def state_of(fields: Mapping[str, object]) -> State:
    """Return a hash's fields as a state."""
    return tuple(sorted((name, str(value)) for name, value in fields.items()))


class Model:
    """The own keys of one client.

    A key whose write got lost is left alone from then on: that write may be done at any later time, by a
    server that was frozen or a connection that was slow, and then it must not come behind another one.
    ``lossy``: an expiry that was set, which waits for nothing, may be lost as well.
    """

    def __init__(self, lossy: bool) -> None:
        self._lossy = lossy
        self.states: dict[str, State] = {}
        self.possible: dict[str, set[State]] = {}
        self.versions: dict[str, set[str]] = {}
        self.poison: dict[str, str] = {}
        self.counted = {OK: 0, REFUSED: 0, LOST: 0}
        self.counters: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def note(self, act: Act, outcome: str) -> None:
        """Take down what became of a write."""
        with self._lock:
            self.counted[outcome] += 1
            if act.counter:
                found = self.counters.setdefault(act.counter, {OK: 0, REFUSED: 0, LOST: 0})
                found[outcome] += 1
            if outcome != REFUSED and act.poison:
                self.poison[act.poison] = outcome
            for key, after in act.after.items():
                self._note(key, after, outcome, act.last)

    def _note(self, key: str, after: State, outcome: str, last: bool) -> None:
        before = self.states.get(key, GONE)
        self.versions.setdefault(key, set()).update(value for name, value in after if name == "version")
        if outcome == OK:
            self.states[key] = after
        if outcome == LOST or (last and outcome == OK and self._lossy and not after):
            self.possible[key] = {before, after}
        elif last and outcome == OK:
            self.possible[key] = {after}
        if key in self.possible:
            self.states.pop(key, None)

    def written(self) -> list[str]:
        """The keys that may be written again, and are there."""
        return [key for key, state in self.states.items() if state]

    def expected(self) -> dict[str, set[State]]:
        """What each key may be at the end; one state, unless a write of it got lost."""
        return {**{key: {state} for key, state in self.states.items()}, **self.possible}
