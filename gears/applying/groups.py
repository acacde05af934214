"""One SQL transaction of many clients' writes, and what it says of each of them."""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping, Sequence

from connectors import Connector, ConnectorError, Position
from connectors.writing.units import Unit, rows_of
from gears.applying import failpoints
from gears.applying.applier import Applier
from gears.applying.conversion import RowFault
from gears.applying.intents import Intent, Outcome, record_of, refusal_of, settled, unit_of
from gears.applying.singles import singles_of
from gears.declaring.deployment import Deployment
from gears.declaring.patterns import Through

KEEP_SECONDS = 60.0
"""How long SQL keeps its records: longer than what Redis can forget with an AOF, or by a promotion.

By a clock that only grows: the ids of a stream jump with the time of day of a machine."""
PRUNE_SECONDS = 1.0
PART_BYTES = 1 << 20
"""How large the commands of one group may be together, unless it is one write: its record has them all."""
MOST_GROWTH = 6
"""How much larger than its command a record may be, before it is compressed."""
LOCK_SHARE, STATEMENT_SHARE = 0.5, 0.6
"""How much of the time for which a client waits the database may take for a lock, and for a statement."""


def limits_of(deployment: Deployment) -> dict[str, float]:
    """Return the times after which a database gives up, so that clients who wait are told in time."""
    times = [
        function.pattern.timeout_ms
        for function in deployment.functions
        if isinstance(function.pattern, Through)
    ]
    return limits_within(min(times)) if times else {}


def limits_within(timeout_ms: int) -> dict[str, float]:
    """Return those times for clients who wait so long."""
    seconds = timeout_ms / 1000
    return {"lock_seconds": seconds * LOCK_SHARE, "statement_seconds": seconds * STATEMENT_SHARE}


class Groups:
    """Commits groups of intents under the applier's claim. ``last``: the position of the group before.

    Raises Unavailable when the database does not say what it takes.
    """

    def __init__(self, connector: Connector, applier: Applier, last: Position | None) -> None:
        self._connector = connector
        self._applier = applier
        self.last = last
        # Asked for here: no client waits for this worker yet.
        self._most_record = connector.most_record()
        self._pruned = time.monotonic()
        self._seen: collections.deque[tuple[float, Position]] = collections.deque()
        self._newest_seen: Position | None = None
        # What the last group was, until it is told: its rows, its intents, and what became of those.
        self._untold: tuple[int, Sequence[Intent], Sequence[Outcome]] | None = None

    def parts(self, intents: Sequence[Intent]) -> Sequence[Sequence[Intent]]:
        """Cut intents to groups, so that what SQL keeps of one is not larger than what it takes."""
        most = min(PART_BYTES, self._most_record // 2 or PART_BYTES)
        if sum(len(each.command) for each in intents) <= most:
            return [intents]
        found: list[list[Intent]] = []
        room = 0
        for each in intents:
            if not found or len(each.command) > room:
                found.append([])
                room = most
            found[-1].append(each)
            room -= len(each.command)
        return found

    def commit(self, intents: Sequence[Intent], position: Position) -> list[Outcome]:
        """Commit a group; return what became of each. ``tell`` is to follow.

        Raises what ``Connector.commit_intents`` raises: after Unavailable with ``in_commit`` only its record
        tells, after anything else nothing is committed.
        """
        self._applier.look_again_now_and_then()
        places, units, reasons = self._prepare(intents)
        if reasons and self._applier.look_again_if_outdated():
            places, units, reasons = self._prepare(intents)
        outcomes: list[Outcome] = []

        def record(refused: Mapping[int, ConnectorError]) -> bytes:
            said = dict(reasons)
            said.update((places[at], _reason(intents[places[at]], why)) for at, why in refused.items())
            outcomes[:] = settled(intents, said)
            failpoints.reach("in-sql")
            return record_of(outcomes)

        failpoints.reach("before-sql")
        refused = self._connector.commit_intents(self._applier.claimed, position, self.last, units, record)
        self.last = position
        rows = len(rows_of(units)) - sum(len(units[at]) for at in refused)
        self._untold = (rows, intents, outcomes)
        return outcomes

    def tell(self) -> None:
        """Report the last group: nobody has to wait for that."""
        if self._untold is None:
            return
        rows, intents, outcomes = self._untold
        self._untold = None
        self._applier.count(rows, intents[0].entries[0].ms, intents[-1].entries[-1].ms)
        self._count_changes([intent for intent, said in zip(intents, outcomes) if not said.reason])

    def prune(self) -> None:
        """Forget old records, now and then, but for the last one. Raises what the connector raises."""
        now = time.monotonic()
        if self.last is None or now - self._pruned < PRUNE_SECONDS:
            return
        self._pruned = now
        if self.last != self._newest_seen:
            self._seen.append((now, self.last))
            self._newest_seen = self.last
        old: Position | None = None
        while self._seen and now - self._seen[0][0] >= KEEP_SECONDS:
            old = self._seen.popleft()[1]
        if old is not None:
            self._connector.prune_intents(self._applier.claimed.stream, old)

    def _count_changes(self, committed: Sequence[Intent]) -> None:
        entries = [entry for intent in committed for entry in intent.entries]
        if not entries:
            return
        converters = self._applier.converters_at(entries[-1].position)
        functions = {each.function.name: len(entries) for each in converters}
        if len(converters) > 1:
            for converter in converters:
                name, match = converter.function.name, converter.match
                functions[name] = sum(match(each.key) is not None for each in entries)
        self._applier.arrived(entries, functions)

    def _prepare(self, intents: Sequence[Intent]) -> tuple[Sequence[int], Sequence[Unit], dict[int, str]]:
        """Return the rows of those that fit, with their places, and why the others do not."""
        converters = self._applier.converters_of(intents[0].entries[0], intents[-1].entries[0])
        reasons = self._too_large(intents)
        singles = None if converters is None or reasons else singles_of(intents, converters)
        if singles is not None:
            return range(len(intents)), singles, {}
        places: list[int] = []
        units: list[Unit] = []
        for place, intent in enumerate(intents):
            if place in reasons:
                continue
            at = converters or self._applier.converters_at(intent.entries[0].position)
            try:
                unit = unit_of(intent, at)
            except RowFault as error:
                reasons[place] = refusal_of(intent.entries[0].key, error, "")
            else:
                places.append(place)
                units.append(unit)
        return places, units, reasons

    def _too_large(self, intents: Sequence[Intent]) -> dict[int, str]:
        """Return why writes are refused, by their place, of which SQL could not keep a record.

        Also of fields that have no column: after a crash Redis gets them from there.
        """
        most = self._most_record
        reasons: dict[int, str] = {}
        for place, intent in enumerate(intents if most else ()):
            if len(intent.command) * MOST_GROWTH < most:
                continue
            size = len(record_of([Outcome(intent.id, intent.command, "")]))
            if size > most:
                said = f"the record of it has {size} bytes, and the server's max_allowed_packet leaves {most}"
                reasons[place] = refusal_of(intent.entries[0].key, None, said)
        return reasons


def _reason(intent: Intent, error: ConnectorError) -> str:
    column = getattr(error, "column", "")
    said = f"column {column}: {error}" if column else str(error)
    return refusal_of(intent.entries[0].key, None, said)
