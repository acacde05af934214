"""Reads the rows that clients wait for: many keys by one SELECT, and no row twice at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from gears.applying.report import TargetReport
from gears.declaring.functions import Function
from gears.declaring.patterns import Reading
from gears.redisgears.api import as_bytes, atomic, execute, log, start_thread
from gears.redisgears.pausing import Pausing
from gears.redisgears.place import NoPlace, require_place
from gears.redisgears.process import ProcessEnded, Reader, Sources
from gears.redisgears.shard import Shard
from gears.redisgears.written import Written, lane_prefixes

MOST = 500
"""How many rows are read at once."""
LANE_SECONDS = 0.005
"""How long to wait before it is looked again whether a change of a key is in SQL."""
MOST_MISSING = 100_000


def _is_cut(key: bytes, image: list[bytes]) -> bool:
    """Whether a hook has let less pass than was to be written."""
    values = execute("HMGET", key, *image[::2])
    return [None if each is None else as_bytes(each) for each in values] != image[1::2]


class Missing:
    """The keys that have no row, for as long as that is to be remembered."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._known: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, key: bytes, milliseconds: int) -> None:
        """There is no row of this key now. Redis is locked."""
        if not milliseconds:
            return
        with self._lock:
            self._known[key] = time.monotonic() + milliseconds / 1000, self._written.stamp(key)
            self._known.move_to_end(key)
            if len(self._known) > MOST_MISSING:
                self._known.popitem(last=False)

    def knows(self, key: bytes) -> bool:
        """Whether there was no row a moment ago, and nobody has written the key since."""
        with self._lock:
            until, stamp = self._known.get(key, (0.0, None))
            if time.monotonic() < until and stamp == self._written.stamp(key):
                return True
            self._known.pop(key, None)
            return False


class Load:
    """A row that is wanted. ``clients`` wait for it: objects with ``is_over`` and ``came(key, error)``."""

    def __init__(self, key: bytes, function: Function) -> None:
        self.key = key
        self.function = function
        self.clients: list[Any] = []


class Loader:
    """Loads the rows of one target. Its thread, and the process that reads, start with the first."""

    def __init__(
        self,
        sources: Sources,
        payload: str,
        target: str,
        functions: Sequence[Function],
        shard: Shard,
        written: Written,
        missing: Missing,
        pausing: Pausing,
    ) -> None:
        self._start = (sources, payload, target)
        self._target = target
        self._functions = functions
        self._shard = shard
        self._written = written
        self._missing = missing
        self._pausing = pausing
        self._process: Reader | None = None
        self._loads: dict[bytes, Load] = {}
        """All that are wanted, also those on their way."""
        self._queue: list[Load] = []
        self._changed = threading.Condition()
        self._runs = False
        self._is_closed = False
        self._epoch = 0
        self.loaded = self.missing = 0
        self._must_look = False
        self._state = "starting"
        self._error = ""

    def close(self) -> None:
        """End when nothing is wanted any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @property
    def pid(self) -> int:
        """The id of the process that reads; 0: there is none now."""
        return 0 if self._process is None else self._process.pid

    def look(self) -> dict[str, Any]:
        """Return the target's part of the report; unless rows were read, have it seen whether they can be."""
        if self._state != "running":
            with self._changed:
                self._must_look = True
                self._start_thread()
                self._changed.notify()
        return {**TargetReport().document(), "state": self._state, "last_error": self._error}

    def want(self, key: bytes, function: Function, client: Any) -> None:
        """Have a row loaded, and the client told. Redis is not locked by this thread."""
        with self._changed:
            load = self._loads.get(key)
            if load is None:
                load = self._loads[key] = Load(key, function)
                self._queue.append(load)
                self._changed.notify()
            load.clients.append(client)
            self._start_thread()

    def _start_thread(self) -> None:
        if not self._runs:
            self._runs = True
            start_thread(self._run)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._must_look and not self._is_closed:
                    self._changed.wait()
                loads, self._queue = self._queue[:MOST], self._queue[MOST:]
                must_look, self._must_look = self._must_look, False
                if not loads and self._is_closed:
                    self._runs = False
                    break
            try:
                if loads:
                    self._load(loads)
                elif must_look:
                    self._ask([(each.name, []) for each in self._functions])
            except Exception as error:
                self._settle(loads, f"the row can't be kept: {error}")
        if self._process is not None:
            self._process.close()

    # -- One round ---------------------------------------------------------------------------------------

    def _load(self, loads: list[Load]) -> None:
        with atomic():
            self._know_lanes()
            paused = self._pausing.reason(self._target)
            waiting = self._written.busy([each.key for each in loads])
            ready = [each for each in loads if each.key not in waiting]
            stamps = {each.key: self._written.stamp(each.key) for each in ready}
        if paused:
            self._settle(loads, paused)
            return
        late = [each for each in loads if each.key in waiting]
        if ready:
            failed, rows = self._read(ready)
            self._settle(failed, f"the row could not be read from {self._target}: {self._error}")
            done, changed = self._put(rows, stamps)
            self._settle(done, "")
            late += changed
        else:
            time.sleep(LANE_SECONDS)
        self._again(late)

    def _know_lanes(self) -> None:
        """Also lanes to which this process has written nothing yet may have changes from before."""
        self._shard.refresh()
        if self._epoch != self._shard.epoch:
            for prefix in lane_prefixes():
                self._written.marks(self._shard.own(prefix), self._shard.epoch)
            self._epoch = self._shard.epoch

    def _read(self, loads: list[Load]) -> tuple[list[Load], list[tuple[Load, Any]]]:
        """Return those whose rows can't be read, and the rows."""
        groups: dict[str, list[Load]] = {}
        for each in loads:
            groups.setdefault(each.function.name, []).append(each)
        found = self._ask([(name, [each.key for each in own]) for name, own in groups.items()])
        failed: list[Load] = []
        rows: list[tuple[Load, Any]] = []
        for own, (error, images) in zip(groups.values(), found):
            if error:
                failed += own
            else:
                rows += zip(own, images)
        return failed, rows

    def _ask(self, wanted: list[tuple[str, list[bytes]]]) -> list[tuple[str, list[Any]]]:
        try:
            try:
                found = self._read_by_process(wanted)
            except ProcessEnded:
                # Somebody has killed it, perhaps: reads can be repeated.
                self._process = None
                found = self._read_by_process(wanted)
        except (ProcessEnded, OSError) as ended:
            self._process = None
            found = [(str(ended), [])] * len(wanted)
        error = next((each for each, _ in found if each), "")
        if error and error != self._error:
            log(f"rows of {self._target} can't be read: {error}", "warning")
        self._state, self._error = ("waiting" if error else "running"), error
        return found

    def _read_by_process(self, wanted: list[tuple[str, list[bytes]]]) -> list[tuple[str, list[Any]]]:
        if self._process is None:
            self._process = Reader(*self._start)
        return self._process.read(wanted)

    def _put(
        self, rows: Sequence[tuple[Load, Any]], stamps: dict[bytes, Any]
    ) -> tuple[list[Load], list[Load]]:
        """Make hashes where there still is no key; return what is done, and whose rows are old by now."""
        done, changed = [], []
        with atomic():
            if rows:
                require_place()
            for load, image in rows:
                if execute("EXISTS", load.key):
                    done.append(load)
                elif self._written.stamp(load.key) != stamps[load.key]:
                    changed.append(load)
                else:
                    self._make(load, image)
                    done.append(load)
        return done, changed

    def _make(self, load: Load, image: list[bytes] | None) -> None:
        pattern = load.function.pattern
        assert isinstance(pattern, Reading)  # noqa: S101 (for mypy)
        if not image:
            self._missing.remember(load.key, pattern.missing_ms)
            self.missing += 1
            return
        with self._written.quietly():
            execute("HSET", load.key, *image)
            if any(b"\0" in each for each in image) and _is_cut(load.key, image):
                execute("DEL", load.key)
                raise NoPlace("beside write-through, RedisGears cuts it at a NUL byte")
            if pattern.ttl:
                execute("PEXPIRE", load.key, pattern.ttl * 1000)
        self.loaded += 1

    # -- Clients -----------------------------------------------------------------------------------------

    def _settle(self, loads: Sequence[Load], error: str) -> None:
        clients = []
        with self._changed:
            for each in loads:
                self._loads.pop(each.key, None)
                clients += [(client, each.key) for client in each.clients]
        for client, key in clients:
            client.came(key, error)

    def _again(self, loads: list[Load]) -> None:
        """Queue rows again for those who still wait."""
        with self._changed:
            for each in loads:
                each.clients = [client for client in each.clients if not client.is_over]
                if each.clients:
                    self._queue.append(each)
                else:
                    self._loads.pop(each.key, None)
