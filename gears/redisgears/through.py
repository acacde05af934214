"""Write-through: the client of a covered write waits until SQL has committed it; then it runs in Redis.

A hook in Python sees the command; it waits for its turn at its keys, then for the process that commits
(commits.py), together with those of all clients. Writes wait in memory: what was committed when this
process dies is in the record that SQL keeps, and is done again by the next one, before any other write.
Redis is locked wherever the state here changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import redisgears

from gears.applying.intents import FOLLOWS
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Through as Pattern
from gears.redisgears import effects
from gears.redisgears.api import as_bytes, atomic, execute, future, resume
from gears.redisgears.capture import Capture
from gears.redisgears.commands import FREEING
from gears.redisgears.deadlines import Deadlines
from gears.redisgears.group import Group
from gears.redisgears.names import through_prefix
from gears.redisgears.pausing import Pausing
from gears.redisgears.performer import Performer
from gears.redisgears.place import has_memory, is_primary, takes_writes
from gears.redisgears.reads import Reads
from gears.redisgears.refusals import DISOWNED, HELD, NO_MEMORY, OTHER, QUEUED, READ_ONLY
from gears.redisgears.shard import Shard
from gears.redisgears.standing import Place, Standing
from gears.redisgears.turns import Turns
from gears.redisgears.write import FAILED, OVER, SENT, WAITING, Write, pass_on, words_of
from gears.redisgears.written import Written

MOST = 1000
"""The most writes of one transaction."""
TWO_KEYS = ("rename", "renamenx", "copy")


class Through:
    """What one deployment's write-through functions do in this process. ``wake``: there is work."""

    def __init__(
        self, deployment: Deployment, shard: Shard, capture: Capture, reads: Reads, pausing: Pausing
    ) -> None:
        found = [each for each in deployment.capturing if isinstance(each.pattern, Pattern)]
        self._timeouts = [(each.mapping.keys.match, _timeout(each.pattern)) for each in found]
        self._target = found[0].target_name
        self._group = Group(deployment, self._target)
        self._mapped = None if self._group.fields is None else {each.encode() for each in self._group.fields}
        self._prefix = self.name = through_prefix(deployment.name, self._target)
        self._shard = shard
        self._standing = Standing(self._prefix, shard)
        self._reads = reads
        self._pausing = pausing
        self._written = Written()
        self._performer = Performer(self._written, capture)
        self._turns = Turns()
        self._queue: list[Write] = []
        self._deadlines = Deadlines()
        self._last = (0, 0)
        self.wake = threading.Event()
        self.is_closed = False
        self._is_undeployed = False

    def give_up(self) -> None:
        """RedisGears has told all who wait an error of its own, because the hooks are others by now: what was
        sent is taken back, should it be committed.
        """
        with atomic():
            for write in self._turns.all():
                write.told = True
                if write.stage == WAITING:
                    self._end(write)

    def close(self) -> None:
        """Take nothing any more: only what was sent is brought to its end."""
        self.is_closed = True
        self._deadlines.close()
        self.wake.set()

    def end(self) -> None:
        """The deployment is gone: who was sent is answered, and nothing of it stays in Redis."""
        self._is_undeployed = True
        self.close()

    def clear(self) -> None:
        """All is brought to its end."""
        if self._is_undeployed:
            with atomic():
                if is_primary():
                    self._standing.forget()

    # -- The hooks, on the main thread -------------------------------------------------------------------

    @staticmethod
    def on_queued() -> None:
        """A command of a MULTI, on EXEC: RedisGears has forgotten whose it is, and can't pass it on."""
        redisgears.flatError((FAILED + QUEUED)[1:])

    def on_write(self, arguments: list[Any]) -> Any:
        """A client's write of a key with a function's prefix: return its reply, or a future."""
        words = words_of(arguments)
        keys = effects.keys_of(words)
        timeouts = {key: self._timeout_of(key) for key in keys}
        covered = [key for key in keys if timeouts[key]]
        if not covered or self._written.passing[0]:
            return self._pass_on(arguments)
        if not is_primary():
            return READ_ONLY
        if not redisgears.isAsyncAllow():
            return FAILED + HELD
        paused = self.pause()
        if paused:
            return FAILED + paused
        is_idle = (
            self._turns.are_free(keys) and effects.effect_of(words) is None and not self._row_of(covered)
        )
        # With what SQL has committed and Redis has forgotten, it may have an effect.
        if is_idle and self._standing.is_ready():
            return pass_on(arguments)
        write = Write(arguments, keys, covered, min(timeouts[key] for key in covered), self.expire)
        write.term = self._standing.term()
        self._turns.take(keys, write)
        self._queue.append(write)
        self._deadlines.add(write.timeout_ms, write)
        self.wake.set()
        write.future = future()
        return write.future

    def on_other(self, arguments: list[Any]) -> Any:
        """A client's command that changes keys and can't wait."""
        count = 2 if str(arguments[0]).lower() in TWO_KEYS else 1
        covered = any(self._timeout_of(key) for key in words_of(arguments[1 : 1 + count]))
        return FAILED + OTHER if covered and not self._written.passing[0] else self._pass_on(arguments)

    def _pass_on(self, arguments: list[Any]) -> Any:
        """Run a command that waits for nothing. Of a hooked command Redis asks no more whether it may be."""
        if not self._written.passing[0]:
            if not takes_writes():
                return READ_ONLY
            if str(arguments[0]).lower() not in FREEING and not has_memory():
                return NO_MEMORY
        return pass_on(arguments)

    def _timeout_of(self, key: bytes) -> int:
        """Return how long a write of a key may wait, in ms; 0: no function covers it."""
        for match, milliseconds in self._timeouts:
            if match(key) is not None:
                return milliseconds
        return 0

    def is_writing(self, key: bytes) -> bool:
        """Whether a client's write of a key is on its way: the hash is older than what SQL may have."""
        return not self._turns.are_free([key])

    def expire(self, write: Write) -> None:
        """Its client has waited long enough. In a thread of its own."""
        with atomic():
            if write.is_over:
                return
            sent = write.stage == SENT
            write.told = True
            if not sent:
                self._end(write)
        end = "it is given up: should it be committed yet, its row is taken back"
        said = f"the database has not committed this within {write.timeout_ms} ms, so "
        resume(write.future, FAILED + said + (end if sent else "nothing was written"))
        self.wake.set()

    def pause(self) -> str:
        """Return why nothing is written now; empty: neither the deployment nor the target is paused."""
        reason = self._pausing.reason(self._target)
        return f"nothing was written: {reason}" if reason else ""

    @property
    def waiting(self) -> int:
        """How many writes wait, for changes of their keys to be in SQL."""
        return len(self._queue)

    # -- For the thread that commits ---------------------------------------------------------------------

    def enter(self) -> Place | None:
        """Return where this shard stands, for SQL to be asked what is behind it; None: it is a replica."""
        with atomic():
            place = self._standing.place()
            if place is not None:
                self._standing.enter(place)
            return place

    def outrank(self, place: Place) -> None:
        """Another life of this shard has taken its writes over in the same epoch: have a higher one."""
        self._shard.outrank(place.epoch)

    def begin(self, last: tuple[int, int, int] | None) -> None:
        """Redis has all that SQL has committed, up to ``last``: writes may be taken."""
        with atomic():
            place = self._standing.require()
            if place.applied is None:
                self._standing.note(last or (0, 0, 0))
            if last is not None and last[0] == place.epoch:
                # An older version of the deployment has made ids too, perhaps by a clock that was ahead.
                self._last = max(self._last, last[1:])
            self._standing.ready()
            answers = [(each, FAILED + DISOWNED) for each in self._queue if each.term != place.term]
            self._end_all(answers)
        _answer(answers)

    def take(self) -> tuple[list[Write], list[Any]]:
        """Return the writes that can be committed now, and the entries of the lane that they would be.

        Raises Changed when SQL is to be asked first.
        """
        taken: list[Write] = []
        entries: list[Any] = []
        answers: list[tuple[Write, Any]] = []
        loads: list[tuple[Write, Function]] = []
        with atomic():
            self._standing.require()
            found = (each for each in self._queue if self._turns.has_come(each.keys, each))
            ready = [each for each in found if not each.is_loading][:MOST]
            busy = self._written.waiting(key for each in ready for key in each.covered) if ready else set()
            is_full = bool(ready) and not has_memory()
            for write in ready:
                function = None if write.was_loaded else self._row_of(write.covered)
                if function is not None and not effects.deletes(write.arguments):
                    write.is_loading = True
                    loads.append((write, function))
                elif busy.isdisjoint(write.covered):
                    answer = self._start(write, entries, is_full)
                    taken += [write] if write.stage == SENT else []
                    answers += [] if write.stage == SENT else [(write, answer)]
            gone = {id(each) for each in taken}
            self._queue = [each for each in self._queue if id(each) not in gone]
            self._end_all(answers)
        _answer(answers)
        for write, function in loads:
            self._reads.load(write.covered[0], function, Loading(write, self))
        return taken, entries

    def _row_of(self, keys: Sequence[bytes]) -> Function | None:
        """Return the function that loads the row of a key that is not there; None: there is none."""
        function = self._reads.function_of(keys[0])
        return function if function is not None and not execute("EXISTS", keys[0]) else None

    def _start(self, write: Write, entries: list[Any], is_full: bool) -> Any:
        """Make a write's entries; return the client's reply if there is nothing to commit."""
        effect = effects.effect_of(words_of(write.arguments))
        if effect is None:
            return self._performer.run(write)
        if is_full and effect.op == effects.SETS:
            return NO_MEMORY
        ticket = effects.to_record(effect.words)
        for key in write.covered:
            now = int(time.time() * 1000)
            self._last = (now, 0) if now > self._last[0] else (self._last[0], self._last[1] + 1)
            write.id = f"{self._last[0]}-{self._last[1]}"
            meta = b"%s%x:%s" % (effect.op, self._shard.epoch, ticket)
            entries.append((write.id.encode(), [b"k", key, b"m", meta, *self._image(key, effect)]))
            ticket = FOLLOWS
        self._written.hold(write.covered)
        write.captured = [self._written.captured(key) for key in write.covered]
        write.stage = SENT
        return None

    def _image(self, key: bytes, effect: effects.Effect) -> list[bytes]:
        if effect.op == effects.DELETES:
            return []
        flat = [as_bytes(each) for each in self._group.image(key) or []]
        image = dict(zip(flat[::2], flat[1::2]))
        for field, value in effect.changes.items():
            if value is None:
                image.pop(field, None)
            elif self._mapped is None or field in self._mapped:
                image[field] = value
        return [part for pair in image.items() for part in pair]

    def settle(self, group: Sequence[Write], refused: dict[str, str], position: tuple[int, int, int]) -> None:
        """SQL has committed a group, but for what is refused with a reason. Raises Changed."""
        with atomic():
            self._standing.require()
            answers = [(each, self._performer.outcome(each, refused.get(each.id, ""))) for each in group]
            self._standing.note(position)
            self._end_all(answers)
        _answer(answers)

    def redo(self, position: tuple[int, int, int], outcomes: Sequence[Any], mine: dict[str, Write]) -> None:
        """SQL has committed this, and Redis may not know of it. ``mine``: writes of this term whose clients
        still wait. Raises Changed.
        """
        answers: list[tuple[Write, Any]] = []
        with atomic():
            place = self._standing.require()
            for write_id, command, reason in outcomes:
                # Another primary may have given the same id.
                write = mine.pop(write_id, None) if position[0] == place.epoch else None
                if write is not None:
                    answers.append((write, self._performer.outcome(write, reason)))
                elif command:
                    self._performer.repeat(effects.from_record(command))
            self._standing.note(position)
            self._end_all(answers)
        _answer(answers)

    def disown(self, group: Sequence[Write]) -> None:
        """Others may have written since a group was sent: SQL goes to what Redis has."""
        with atomic():
            for each in group:
                self._performer.capture_again(each.covered)
            answers = [(each, FAILED + DISOWNED) for each in group]
            self._end_all(answers)
        _answer(answers)

    def give_back(self, group: Sequence[Write]) -> None:
        """Nothing of a group is committed: it waits again, before all others."""
        with atomic():
            for each in group:
                self._written.release(each.covered)
                each.stage = WAITING
            for each in [each for each in group if each.told]:
                self._end(each)
            self._queue = [each for each in group if each.stage == WAITING] + self._queue

    def refuse(self, group: Sequence[Write] | None, reason: str) -> None:
        """Nothing of a group is committed, or of all that wait (None), and nothing will be."""
        with atomic():
            wanted = list(self._queue if group is None else group)
            answers = [(each, FAILED + " ".join(reason.split())) for each in wanted]
            self._end_all(answers)
        _answer(answers)

    # -- The end of a write ------------------------------------------------------------------------------

    def _end_all(self, answers: Sequence[tuple[Write, Any]]) -> None:
        for write, _ in answers:
            self._end(write)

    def _end(self, write: Write) -> None:
        if write.stage == SENT:
            self._written.release(write.covered)
        write.stage = OVER
        self._turns.leave(write.keys, write)
        if write in self._queue:
            self._queue.remove(write)


class Loading:
    """A write that waits for the row of its key."""

    def __init__(self, write: Write, through: Through) -> None:
        self._write = write
        self._through = through

    @property
    def is_over(self) -> bool:
        """Whether it waits no more."""
        return self._write.is_over

    def came(self, key: bytes, error: str) -> None:
        """The row is there, or there is none, or it can't be read."""
        self._write.is_loading = False
        self._write.was_loaded = True
        if error and not self._write.is_over:
            self._through.refuse([self._write], f"nothing was written: {error}")
        self._through.wake.set()


def _answer(answers: Sequence[tuple[Write, Any]]) -> None:
    for write, reply in answers:
        if not write.told:
            resume(write.future, reply)


def _timeout(pattern: Any) -> int:
    return pattern.timeout_ms if isinstance(pattern, Pattern) else 0
