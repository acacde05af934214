"""What a follower does between two failures: finds its place in the outbox, and goes on from there."""

from __future__ import annotations

import collections
import json
import logging
import threading
import time
from typing import Any

import redis

from connectors import Connector, SchemaMismatch, Unavailable
from connectors.outbox import BegunAnew, Entry, Followed, Followers, Waker, outbox_of
from connectors.triggers import MISSING, triggers_of
from connectors.triggers.base import FOLLOWER
from gears.applying import failpoints
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Around
from gears.worker.following.bringing import Bringer
from gears.worker.following.place import Place, address_of
from gears.worker.following.progress import Progress, Trail
from gears.worker.following.rowkeys import RowKeys
from gears.worker.following.sweep import Sweep
from gears.worker.logs import event
from gears.worker.ownslots import OwnSlots
from gears.worker.shared import Shared

log = logging.getLogger("gearsync.worker")

LABEL = "write-around"
MOST = 1000
"""The most entries that are read at once."""
MOST_OPEN = 100_000
"""The most keys that may wait for their changes to reach SQL; then nothing more is read."""
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 0.05, 1.0
"""How long to wait before a key is tried again that had to be left for later."""
KEEP_SECONDS = 300.0
"""How long entries are kept that were brought to Redis: a Redis that crashes, or a promoted replica, may have
lost that, and goes on where it was."""
RELEASE_SECONDS = 10.0
"""How often entries are let go of that all have passed."""


class LostPlace(Exception):
    """The outbox does not hold all that this follower has not read."""


class Following:
    """One target's outbox on its way to Redis. ``open`` first, then ``work`` again and again."""

    def __init__(
        self, shared: Shared, target: str, connector: Connector, client: redis.Redis, trail: Trail
    ) -> None:
        self._deployment = shared.deployment
        self._target = target
        self._connector = connector
        self._client = client
        self._followers = Followers(connector)
        self.address = address_of(client, shared.deployment.name, target)
        self._name = self.address.name
        self._place = Place(client, self.address, target)
        self._outbox = outbox_of(connector)
        self._slots = OwnSlots(client)
        self._waker: Waker | None = None
        self._progress = Progress("")
        self._keys = {
            function.name: RowKeys(function, connector) for function in functions_of(self._deployment, target)
        }
        self._sweeps: collections.deque[Sweep] = collections.deque()
        # What the first of them has found and must be tried again.
        self._swept: set[Any] = set()
        self._uncovered = False
        # Tables whose triggers were there, or were seen, in this session.
        self._seen: set[str] = set()
        self._full = False
        self._brought = 0
        self._settled = time.monotonic()
        self._trail = trail
        self._released = 0.0
        self._tried = 0.0
        self._again_seconds = AGAIN_SECONDS
        # The last, for it has a connection.
        self._bringer = Bringer(shared.url, shared.deployment.name)

    def close(self) -> None:
        """Close the connections that are its own."""
        self._bringer.close()
        if self._waker is not None:
            self._waker.close()

    # -- The beginning -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the place from which to go on. Raises SchemaMismatch when there are no triggers."""
        self._require_triggers()
        # First to be woken, then to look: nothing falls between.
        self._waker = self._outbox.waker()
        try:
            position, covered, lost = self._resume()
        except LostPlace as error:
            log.warning(
                "%s of %s has lost its place in the outbox: %s. What was changed since is not known, so all "
                "keys that are followed are brought anew",
                *(LABEL, self._target, error),
                extra=event("around_lost", target=self._target, error=str(error)),
            )
            position, covered, lost = self._begin(lost=True), set(), True
        gone = set(self._memory().get("gone", ()))
        self._progress = Progress(position)
        self._place.write(position)
        self._trail.go_on(self._name, position)
        for keys in self._keys.values():
            mark = fingerprint(keys.function)
            if mark not in covered:
                self._uncovered = True
                self._sweep_at_first(keys.function, lost or mark in gone)

    def _resume(self) -> tuple[str, set[str], bool]:
        """Return the position, the functions that were followed from there on, and whether what the others
        missed is not known.
        """
        known = self._followers.find(self._name)
        saved = self._place.read()
        if known is None:
            if saved is not None:
                raise LostPlace("it was made anew")
            return self._begin(lost=False), set(), False
        if known.horizon is None:
            raise LostPlace("it was not waited for any longer")
        position = known.position if saved is None else saved
        if self._outbox.horizon(position) < known.horizon:
            raise LostPlace("Redis has gone back to before what is left of it")
        if not self._outbox.begin(position, known.horizon):
            return self._go_back(known)
        if self._slots.is_cluster:
            # A slot may have come since, whose old shard had not brought yet what was passed here.
            position = known.position
            self._outbox.begin(position)
        memory = json.loads(known.functions)
        return position, set(memory["covered"]), bool(memory["lost"])

    def _go_back(self, known: Followed) -> tuple[str, set[str], bool]:
        """The database is an older one, and so is what it knows of this follower, which is sound therefore.

        Hashes may be of changes that are lost, and are made anew; but not those that functions here write,
        for Redis has newer ones than SQL then.
        """
        if not self._outbox.begin(known.position, self._outbox.horizon(known.position)):
            raise LostPlace("it was emptied, or has gone back to before what was read of it")
        log.warning(
            "%s of %s: the database has gone back to an older state. What was changed there since is brought "
            "again, and so are all keys that no function of the deployment writes",
            *(LABEL, self._target),
            extra=event("around_lost", target=self._target, error="the database has gone back"),
        )
        memory = json.loads(known.functions)
        left = {fingerprint(keys.function) for keys in self._keys.values() if self._is_written(keys.function)}
        covered = set() if memory["lost"] else left - set(memory.get("gone", ()))
        self._followers.cover(self._name, json.dumps({**memory, "covered": sorted(covered)}))
        return known.position, covered, bool(memory["lost"])

    def _is_written(self, function: Function) -> bool:
        capturing = self._deployment.capturing
        return any(function.mapping.shares_keys(other.mapping) for other in capturing)

    def _begin(self, lost: bool) -> str:
        position = self._outbox.now()
        self._outbox.begin(position)
        memory = json.dumps({"covered": [], "lost": lost})
        self._followers.add(self._name, Followed(position, self._outbox.horizon(position), memory))
        return position

    def _require_triggers(self, again: bool = False) -> None:
        """Raise SchemaMismatch when triggers are missing; ``again``: doubts were told before."""
        triggers = triggers_of(self._connector)
        for keys in self._keys.values():
            table = keys.function.mapping.table
            if triggers.state(self._connector.table(table)) != MISSING:
                self._seen.add(table)
                continue
            message = f"the triggers of {table} are missing; run gearsync triggers FILE --apply"
            if triggers.are_seen_by_all or table in self._seen or self._are_gone(keys.function):
                self._uncover(keys.function)
                raise SchemaMismatch(message)
            if again:
                continue
            told = event("triggers_missing", target=self._target, error=message)
            log.warning(
                "%s: %s; or this user has not the right TRIGGER, and can't see them",
                LABEL,
                message,
                extra=told,
            )

    def _are_gone(self, function: Function) -> bool:
        return fingerprint(function) in self._memory().get("gone", ())

    def _uncover(self, function: Function) -> None:
        """Remember that triggers were there and are not: what was changed meanwhile will not be known."""
        memory, mark = self._memory(), fingerprint(function)
        if mark not in memory.get("covered", ()):
            return
        memory["covered"].remove(mark)
        memory["gone"] = [*memory.get("gone", ()), mark]
        self._followers.cover(self._name, json.dumps(memory))

    def _memory(self) -> dict[str, Any]:
        """Return what is remembered of this follower; nothing, where there is none yet."""
        with self._connector.transaction(reads=True) as connection:
            if not self._connector.has_table(connection, FOLLOWER):
                return {}
        known = self._followers.find(self._name)
        found: dict[str, Any] = json.loads(known.functions) if known is not None else {}
        return found

    def _sweep_at_first(self, function: Function, lost: bool) -> None:
        """What Redis has of a function that was not followed so far may be older than SQL."""
        if not lost and self._is_written(function):
            # SQL may have no row of such a key: it would be lost.
            told = event("around_begins", function=function.name)
            log.info(
                "%s of %s begins; keys that Redis has stay as they are", LABEL, function.name, extra=told
            )
        else:
            self._sweeps.append(Sweep(function))

    # -- Work --------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Bring what is new to Redis, then what was left for later, then some of what is swept."""
        self._try_again()
        open_ones = len(self._progress.open)
        if open_ones < MOST_OPEN:
            self._read()
        else:
            # What else there is has to wait, for as long as the next try.
            self._full = False
        self._sweep()
        self._place.write(self._progress.position)
        self._trail.reach(self._name, self._progress.position)
        if not (self._full or self._sweeps or self._progress.open):
            self._settled = time.monotonic()
        if time.monotonic() - self._released > RELEASE_SECONDS:
            self._release()

    @property
    def is_over(self) -> bool:
        """Whether another one must begin: this shard has other slots now."""
        return self._slots.have_changed()

    def _read(self) -> None:
        try:
            entries = self._outbox.read(MOST)
        except BegunAnew:
            # So that no one finds a place in it, once it has as many entries again.
            self._followers.forget(self._name)
            raise
        self._full = len(entries) >= MOST
        left: list[Any] = []
        for name, keys in self._keys.items():
            left += self._bring_entries(name, keys, entries)
        failpoints.reach("around-before-position")
        self._progress.pass_by(self._outbox.position, left)

    def _bring_entries(self, name: str, keys: RowKeys, entries: list[Entry]) -> list[Any]:
        """Bring what entries say; return what is left open."""
        found, everything = keys.of(entries)
        if everything:
            sweep = Sweep(keys.function)
            self._sweeps.append(sweep)
            return [sweep, *self._bring(name, found)]
        return list(self._bring(name, found))

    def _bring(self, name: str, found: list[bytes]) -> list[tuple[str, bytes]]:
        if not found:
            return []
        keys = self._keys[name]
        later = [(name, key) for key in self._bringer.bring(keys.function, keys.reader, found)]
        self._brought += len(found) - len(later)
        self._progress.settle({(name, key) for key in found} - set(later))
        return later

    def _try_again(self) -> None:
        now = time.monotonic()
        before = self._progress.open
        if not before or now - self._tried < self._again_seconds:
            return
        self._tried = now
        waiting: dict[str, list[bytes]] = {}
        for thing in before:
            if not isinstance(thing, Sweep):
                name, key = thing
                waiting.setdefault(name, []).append(key)
        for name, found in waiting.items():
            self._bring(name, found)
        stuck = len(self._progress.open) == len(before)
        self._again_seconds = min(MOST_AGAIN_SECONDS, self._again_seconds * 2) if stuck else AGAIN_SECONDS

    def _sweep(self) -> None:
        if self._sweeps:
            self._sweep_on(self._sweeps[0])
        if self._uncovered and not self._sweeps:
            covered = [fingerprint(keys.function) for keys in self._keys.values()]
            self._followers.cover(self._name, json.dumps({"covered": covered, "lost": False}))
            self._uncovered = False

    def _sweep_on(self, sweep: Sweep) -> None:
        if not sweep.done:
            left = self._bring(sweep.function.name, sweep.step(self._client))
            self._progress.pass_by(self._outbox.position, left)
            self._swept.update(left)
        self._swept &= self._progress.open
        if sweep.done and not self._swept:
            name, keys = sweep.function.name, sweep.keys
            told = event("around_looked", function=name, count=keys)
            log.info("%s of %s: looked at all %d keys in Redis", LABEL, name, keys, extra=told)
            self._sweeps.popleft()
            self._progress.settle([sweep])

    def _release(self) -> None:
        """Let go of entries that all followers have passed for long enough; see that more can come."""
        self._require_triggers(again=True)
        now = self._released = time.monotonic()
        position = self._trail.sample(now, self._progress.position, now - KEEP_SECONDS)
        if position is not None and not self._slots.is_importing:
            self._followers.release(self._name, position, self._outbox.horizon(position))
        if not self._followers.touch(self._name):
            raise Unavailable("somebody has dropped this follower")
        for name in self._followers.drop_unseen():
            log.warning(
                "%s of %s: %s was away for too long; nothing is kept for it",
                *(LABEL, self._target, name),
                extra=event("follower_forgotten", target=self._target, error=name),
            )
        lowest = self._followers.lowest()
        if lowest is not None:
            while self._outbox.prune(lowest, MOST) == MOST and time.monotonic() - now < 1.0:
                continue

    # -- Between -----------------------------------------------------------------------------------------

    @property
    def pause_seconds(self) -> float:
        """How long to wait before there is work again, if nobody calls."""
        if self._full or (self._sweeps and not self._sweeps[0].done):
            return 0.0
        if self._progress.open:
            return self._again_seconds
        patterns = [keys.function.pattern for keys in self._keys.values()]
        return min(pattern.poll_ms for pattern in patterns if isinstance(pattern, Around)) / 1000

    def wait(self, seconds: float, halt: threading.Event) -> bool:
        """Wait for the database to call, or for the end; whether there is something to do."""
        if self._waker is None:
            return halt.wait(seconds)
        return self._waker.wait(seconds)

    def figures(self) -> dict[str, Any]:
        """Return what the worker's report tells."""
        behind = time.monotonic() - self._settled
        return {"brought": self._brought, "waiting": len(self._progress.open), "behind_s": round(behind, 1)}


def functions_of(deployment: Deployment, target: str) -> list[Function]:
    """Return the functions that follow tables of a target."""
    return [
        function
        for function in deployment.functions
        if function.kind == Around.kind and function.target_name == target
    ]


def fingerprint(function: Function) -> str:
    """Return what tells whether keys are followed that were not before."""
    mapping = function.mapping
    return json.dumps([mapping.table, mapping.keys.text, mapping.db])
