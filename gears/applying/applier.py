"""One lane's batches to one database: the claim, the columns as they are, refusals to dead letters.

What every host shares: how it reads a lane, waits and acknowledges is its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from connectors import Claim, Connector, ConnectorError, Moves, Position, Refusal, SchemaMismatch, Unavailable
from connectors.bookkeeping.letters import Remembered
from gears.applying import failpoints
from gears.applying.added import Origin
from gears.applying.change import FLUSHED, Change
from gears.applying.conversion import Converter
from gears.applying.converters import converter_for
from gears.applying.deadletters import Letter
from gears.applying.owed import Owed, Parted, Settlement
from gears.applying.pipeline import Batch, merged, parts_of
from gears.applying.remembered import Pruning, remembered
from gears.applying.report import TargetReport
from gears.applying.rules import Rules, cut, of_target, only
from gears.applying.whole import Outcome
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function, Transform

log = logging.getLogger("gearsync.worker")

NO_MOVES = Moves((), ())
LOOKING_SHARE = 0.1
"""Rows that don't fit make the worker look at the tables again, for at most this share of its time."""
LOOK_AGAIN_SECONDS, LOOK_AGAIN_SHARE = 10.0, 0.01
"""How long columns are taken to be what they were while all goes well, at least; and the share of its time:
databases round what has more digits than a column that was narrowed, and do not say so."""


if TYPE_CHECKING:
    # Python 3.7 can't make this one.
    At = Callable[[Position], Sequence[Converter]]
    """What makes rows of a change that stands there."""


class Unexpected(Exception):
    """Something is refused by columns that may be others by now; nothing was committed."""


class Applier:
    """Applies the batches of one lane, one after another, for as long as nobody else claims it.

    ``bury`` stores dead letters, before the transaction that leaves them out commits, and returns the ids
    that they have in Redis. ``earlier``: the rules of versions before, which captured the first of what
    waits. ``fill`` reads the members for the marks among changes, by what makes rows of them and of changes
    elsewhere in the lane, and ``portion`` cuts changes of which it would read too many at once; None: there
    can be none. ``wanted`` tells which functions are applied here; ``origin``: the lane that their changes
    are of, unless it is the stream that is claimed.
    """

    def __init__(
        self,
        connector: Connector,
        deployment: Deployment,
        target: str,
        transforms: Mapping[str, Transform],
        report: TargetReport,
        bury: Callable[[Sequence[Letter]], Sequence[str]],
        earlier: Sequence[Rules] = (),
        fill: Callable[[Sequence[Change], Sequence[Converter], At], Sequence[Change]] | None = None,
        wanted: Callable[[Function], bool] | None = None,
        origin: str = "",
        portion: Callable[[Sequence[Change], Sequence[Converter]], Sequence[Sequence[Change]]] | None = None,
    ) -> None:
        self._connector = connector
        self._portion = portion
        self._deployment = deployment.name
        self._stream = ""
        self._origin = origin
        self._present = only(
            Rules(deployment.version, None, of_target(deployment, target), transforms), wanted
        )
        self._earlier = [only(each, wanted) for each in earlier]
        self._report = report
        self._bury = bury
        self._pruning = Pruning(connector)
        self._fill = fill
        self._converters: list[Converter] = []
        # With their converters; replaced as a whole, because another thread prepares batches.
        self._before: list[tuple[Rules, list[Converter]]] = []
        self._claim: Claim | None = None
        self._owed = Owed("", ())
        self._looked = 0.0
        self._look_seconds = 0.0

    def open(self, stream: str, epoch: int, owner: str) -> None:
        """Look at the tables and claim the lane. Raises what the connector raises: Fenced, Unavailable…"""
        self._stream = stream
        self._connector.ensure_checkpoint()
        self._build_converters()
        self.claim(stream, epoch, owner)

    def claim(self, stream: str, epoch: int, owner: str) -> None:
        """Claim the lane, also again: only the checkpoint knows whether a lost commit is in."""
        # What was held back has its row made with it, and is done with once that is gone.
        self._claim = self._connector.claim(stream, epoch, owner, adds=not self._origin)
        self._load_owed()
        self._report.claimed(stream)

    def _load_owed(self) -> None:
        functions = [each for rules in (self._present, *self._earlier) for each in rules.functions]
        self._owed = Owed(self._origin or self._stream, functions)
        try:
            self._owed.load(self._connector)
        except SchemaMismatch as error:
            # A right may be missing. The lane goes on, as it does where nothing can be remembered.
            log.warning("%s: what SQL remembers of refused writes can't be read: %s", self._stream, error)

    @property
    def connector(self) -> Connector:
        """The database that it writes to."""
        return self._connector

    @property
    def claimed(self) -> Claim:
        """The claim under which the next batch goes. Raises RuntimeError before ``open``."""
        if self._claim is None:
            raise RuntimeError("the lane is not claimed yet")
        return self._claim

    @property
    def position(self) -> Position:
        """How far the lane was applied when it was claimed."""
        return self.claimed.position

    def prepare(self, changes: Sequence[Change]) -> Batch:
        """Prepare a batch of one of ``parts`` with the columns as they are known now."""
        converters = self.converters_at(changes[0].position)
        if self._fill is None:
            return Batch(changes, converters)
        return Batch(self._fill(changes, converters, self.converters_at), converters)

    def parts(self, changes: Sequence[Change]) -> list[Sequence[Change]]:
        """Cut changes to batches: keys that came from another shard, and other versions, begin one, and many
        members are too many for one.
        """
        parts = cut(parts_of(changes), [rules for rules, _ in self._before])
        if self._portion is None or not changes:
            return parts
        return [
            portion for part in parts for portion in self._portion(part, self.converters_at(part[0].position))
        ]

    def commit(self, batch: Batch, moves: Moves = NO_MOVES) -> Batch:
        """Commit a batch with the position of its last change; return it as it went.

        Raises what ``Connector.apply`` raises; then nothing is committed, or a first part, or, with
        Unavailable, perhaps all.
        """
        parts: list[Batch] = []
        try:
            self._commit_in_parts(batch, moves, parts)
        except SchemaMismatch as error:
            if not parts:
                raise
            raise Unavailable(f"only a part of a batch is in SQL: {error}") from error
        return merged(parts)

    def _commit_in_parts(self, batch: Batch, moves: Moves, parts: list[Batch]) -> None:
        """Commit a batch, in as many parts as it takes, and note each."""
        while True:
            try:
                parts.append(self._commit(batch, moves))
                return
            except Parted as parted:
                first, rest = batch.changes[: parted.at], batch.changes[parted.at :]
            self._commit_in_parts(self.prepare(first), Moves(taken=moves.taken), parts)
            # Who waits for a key that left waits for all of it.
            batch, moves = self.prepare(rest), Moves(given=moves.given)

    def _commit(self, batch: Batch, moves: Moves) -> Batch:
        self.look_again_now_and_then()
        fresh = not self._may_be_outdated()
        while True:
            if batch.converters is not self.converters_at(batch.changes[0].position):
                # It was prepared while the tables were looked at.
                batch = self.prepare(batch.changes)
            owing = self._owed.of(batch.changes)
            if owing:
                batch = Batch(batch.changes, batch.converters, owing)
            try:
                self._attempt(batch, moves, fresh)
                self._forget_passed(batch.position)
                return batch
            except Unexpected:
                # Once is enough, however long the database takes to refuse it all.
                self.look_again()
                fresh = True

    def converters_at(self, position: Position) -> Sequence[Converter]:
        """Return what makes rows of a change there, by the columns as they were when last looked at."""
        for rules, converters in self._before:
            if rules.covers(position):
                return converters
        return self._converters

    def converters_of(self, first: Change, last: Change) -> Sequence[Converter] | None:
        """Return what makes rows of all changes from ``first`` to ``last``; None: not the same of all."""
        if not self._before:
            return self._converters
        found = self.converters_at(first.position)
        return found if found is self.converters_at(last.position) else None

    def _forget_passed(self, position: Position) -> None:
        """Their tables may go from now on."""
        if self._before and not self._before[0][0].goes_on_after(position):
            self._before = [each for each in self._before if each[0].goes_on_after(position)]
            self._earlier = [rules for rules, _ in self._before]

    def look_again_now_and_then(self) -> None:
        """Look at the tables again if that was long ago. Raises Unavailable."""
        most = max(LOOK_AGAIN_SECONDS, self._look_seconds / LOOK_AGAIN_SHARE)
        if time.monotonic() - self._looked <= most:
            return
        try:
            self.look_again()
        except SchemaMismatch as error:
            # Who writes to that table will be told; the others need not wait for it.
            log.debug("%s: the tables can't be looked at: %s", self._stream, error)

    def look_again_if_outdated(self) -> bool:
        """Look at the tables again, unless that was just done; whether it was."""
        if not self._may_be_outdated():
            return False
        self.look_again()
        return True

    def count(self, rows: int, first_ms: int, last_ms: int) -> None:
        """Report rows that were committed."""
        self._report.committed(self.claimed.stream, rows, first_ms, last_ms)

    def arrived(self, changes: Sequence[Change], functions: Mapping[str, int]) -> None:
        """Report changes that are in SQL, and how many of them each function had."""
        self._report.arrived(len(changes), lambda at: changes[at].ms, functions)

    def _count_changes(self, batch: Batch) -> None:
        functions = batch.counts()
        for letter in batch.letters:
            if letter.fields["op"] == FLUSHED:
                # It counted for none of them.
                continue
            for name in letter.functions:
                functions[name] -= 1
        changes: Sequence[Change] = batch.changes
        if batch.refused:
            changes = [each for each in changes if each.id not in batch.refused]
        self.arrived(changes, functions)

    def look_again(self) -> None:
        """The tables may have changed: reflect them anew. Raises Unavailable, SchemaMismatch.

        If that of the checkpoints is gone, it is made; then the next commit asks for a claim.
        """
        self._connector.forget_tables()
        self._connector.ensure_checkpoint()
        self._build_converters()

    def _build_converters(self) -> None:
        self._looked = time.monotonic()
        present = self._converters_of(self._present)
        self._before = [(each, self._converters_or(present, each)) for each in self._earlier]
        self._converters = present
        self._look_seconds = time.monotonic() - self._looked

    def _converters_of(self, rules: Rules) -> list[Converter]:
        origin = Origin(self._deployment, self._origin or self._stream)
        return [
            converter_for(function, rules.transforms.get(function.name), self._connector, origin)
            for function in rules.functions
        ]

    def _converters_or(self, present: list[Converter], rules: Rules) -> list[Converter]:
        """An earlier version whose table or column is gone can never be applied: the present one has to."""
        try:
            return self._converters_of(rules)
        except SchemaMismatch as error:
            log.warning(
                "what version %d captured and still waits is applied by the rules of version %d, because the "
                "database has no place for its own: %s",
                rules.version,
                self._present.version,
                error,
            )
            return present

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._looked > self._look_seconds / LOOKING_SHARE

    def _attempt(self, batch: Batch, moves: Moves, fresh: bool) -> None:
        """Commit a batch; ``fresh``: it was prepared by the columns as they are."""
        outcome = Outcome(batch)
        kept: list[Remembered] = []
        settlement: Settlement = {}

        def settle(letters: Sequence[Letter]) -> None:
            found = self._owed.after(batch.owing, letters, batch.converters, outcome.chains, batch.cleared)
            settlement.clear()
            settlement.update(found)

        def store(refusals: list[Refusal]) -> None:
            letters = outcome.letters(refusals)
            if letters and not fresh:
                raise Unexpected
            settle(letters)
            kept[:] = remembered(letters, self._bury(letters))
            batch.letters = letters
            batch.refused = {letter.id: letter.fields["reason"].decode() for letter in letters}

        if batch.faults:
            # Before SQL, because the connector asks only about what the database itself refuses.
            store([])
        elif batch.owing or batch.cleared:
            settle(())
        failpoints.reach("before-sql")
        # A restored Redis can have an earlier epoch than SQL, whose position has to grow all the same.
        position = batch.position._replace(epoch=max(batch.position.epoch, self.position.epoch))
        words = self.claimed, position, outcome.rows, store, batch.earlier, moves
        applied = self._connector.apply(
            *words, outcome.units, lambda: kept, lambda: self._owed.rows(settlement)
        )
        self._owed.note(settlement)
        self.count(applied.rows, batch.changes[0].position.ms, batch.position.ms)
        self._count_changes(batch)
        self._report.count(skipped=batch.skipped)
        if kept:
            self._prune()

    def _prune(self) -> None:
        try:
            self._pruning.step(self._stream)
        except ConnectorError as error:
            # The batch is in; another one comes to it.
            log.warning("%s: what SQL remembers of old dead letters stays for now: %s", self._stream, error)
