"""Read-through in the worker: a thread for each target brings the rows that clients wait for."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import redis

from connectors import Connector, ConnectorError, SchemaMismatch, UnreadableRow
from gears.applying.images import RowReader
from gears.applying.report import TargetReport
from gears.declaring.patterns import Reading
from gears.worker import lanes
from gears.worker.backoff import Backoff
from gears.worker.logs import event
from gears.worker.reading.misses import Fields, Miss, Misses, Replaced
from gears.worker.shared import Shared
from gears.worker.task import Task, fault

log = logging.getLogger("gearsync.worker")

MOST = 500
"""The most rows of one SELECT."""
WAIT_MS = 500
"""The longest wait for a miss: how late a stop is noticed."""
EARLY_SECONDS = 0.05
"""How long to wait when the server has sent us away with nothing, and before the time."""
AWAY_SECONDS = 1.0
"""The longest time for which a database that was away is not asked again; clients are told at once."""


class Loader(Task):
    """Brings the rows of one target until it is stopped."""

    def __init__(self, shared: Shared, target: str, report: TargetReport) -> None:
        super().__init__(shared, f"load from {target}")
        self._target = target
        self._report = report
        self._database = Database(shared, target)
        self._backoff = Backoff()
        self._told = ""

    def _run(self) -> None:
        try:
            while not self.over:
                try:
                    self._serve()
                except Replaced as error:
                    log.info("load from %s: %s", self._target, error, extra=event("loader_replaced"))
                    self._shared.stop.set()
                except redis.RedisError as error:
                    self._wait(f"Redis: {error}")
                except Exception as error:
                    self._wait(fault(error, self._name, target=self._target))
        finally:
            self._database.close()

    def _wait(self, error: str) -> None:
        seconds = self._backoff.next_seconds()
        self._tell(error)
        self._halt.wait(seconds)

    def _tell(self, error: str) -> None:
        """Say what is wrong, once for each error, and show it in the report; empty: nothing is any more."""
        if error:
            self._report.failed(self._name, error)
        elif self._told:
            self._report.claimed(self._name)
        if error:
            told = event("loader_waits", target=self._target, error=error)
            log.warning("load from %s: %s", self._target, error, extra=told)
        self._told = error

    @property
    def _name(self) -> str:
        return f"load from {self._target}"

    def _serve(self) -> None:
        """Answer misses on one connection until something fails."""
        deployment = self._shared.deployment
        with lanes.connect(self._shared.url) as client:
            name, version, digest = deployment.name, deployment.version, self._shared.digest
            misses = Misses(client, name, version, self._target, digest)
            self._look()
            while not self.over:
                begin = time.monotonic()
                taken = misses.take(MOST, WAIT_MS)
                if taken:
                    self._answer(misses, taken)
                elif time.monotonic() - begin < WAIT_MS / 2000:
                    self._halt.wait(EARLY_SECONDS)
                elif self._told:
                    self._look()
                self._backoff.reset()

    def _look(self) -> None:
        """See, while nobody waits, whether rows could be read: the first client need not find it out."""
        try:
            self._database.open()
        except ConnectorError as error:
            self._tell(str(error))
        else:
            self._tell("")

    def _answer(self, misses: Misses, taken: Sequence[Miss]) -> None:
        by_function: dict[int, list[Miss]] = {}
        for miss in taken:
            by_function.setdefault(miss.function, []).append(miss)
        for function, wanted in by_function.items():
            try:
                rows = self._database.read(function, [miss.key for miss in wanted])
            except ConnectorError as error:
                self._fail(misses, wanted, error)
                continue
            ttl_ms = self._database.ttl_ms(function)
            misses.bring([(miss.token, ttl_ms, rows[miss.key]) for miss in wanted if miss.key in rows])
            unread = [miss for miss in wanted if miss.key not in rows]
            if unread:
                misses.fail([miss.token for miss in unread], self._sentence(self._database.last_problem))
            self._tell("")

    def _fail(self, misses: Misses, wanted: Sequence[Miss], error: ConnectorError) -> None:
        self._tell(str(error))
        misses.fail([miss.token for miss in wanted], self._sentence(str(error)))

    def _sentence(self, error: str) -> str:
        return f"the row could not be read from {self._target}: {error}"


class Database:
    """The connection to a target, made when it is needed, and left alone for a moment after a failure."""

    def __init__(self, shared: Shared, target: str) -> None:
        self._shared = shared
        self._target = target
        self._functions = shared.deployment.reading
        self._own = [
            index for index, function in enumerate(self._functions) if function.target_name == target
        ]
        self._connector: Connector | None = None
        self._readers: dict[int, RowReader] = {}
        self._backoff = Backoff(most=AWAY_SECONDS)
        self._failures: dict[int, tuple[ConnectorError, float]] = {}
        self.last_problem = ""
        # Whether that is of a row, and says nothing of the function's others.
        self._is_of_row = False

    def ttl_ms(self, function: int) -> int:
        """Return how long a loaded hash of this function lives."""
        pattern = self._functions[function].pattern
        assert isinstance(pattern, Reading)  # noqa: S101 (for mypy)
        return pattern.ttl * 1000

    def open(self) -> None:
        """Connect, and look at the tables. Raises ConnectorError as ``read`` does."""
        for function in self._own:
            self.read(function, [])

    def read(self, function: int, keys: Sequence[bytes]) -> dict[bytes, Fields | None]:
        """Return the rows of keys, None: there is none. A key whose row can't be read is not in the result.

        Raises ConnectorError when no row can be read; for a moment the same one without another try.
        """
        failure, until = self._failures.get(function, (None, 0.0))
        if failure is not None and time.monotonic() < until:
            raise failure
        try:
            found = self._read(self._reader(function), keys)
            if keys and not found and not self._is_of_row:
                raise SchemaMismatch(self.last_problem)
        except ConnectorError as error:
            self._failures[function] = (error, time.monotonic() + self._backoff.next_seconds())
            self.close()
            raise
        self._failures.pop(function, None)
        self._backoff.reset()
        return found

    def _reader(self, function: int) -> RowReader:
        if self._connector is None:
            self._connector = self._shared.open_connector(self._target)
        if function not in self._readers:
            self._readers[function] = RowReader(self._functions[function], self._connector)
        return self._readers[function]

    def _read(self, reader: RowReader, keys: Sequence[bytes]) -> dict[bytes, Fields | None]:
        """One row that can't be read must not keep the others back: it is found by halves."""
        try:
            return dict(reader.read(keys))
        except SchemaMismatch as error:
            if len(keys) == 1:
                self.last_problem, self._is_of_row = str(error), isinstance(error, UnreadableRow)
                return {}
        half = len(keys) // 2
        return {**self._read(reader, keys[:half]), **self._read(reader, keys[half:])}

    def close(self) -> None:
        """Close the connection; the next read makes another one."""
        self._readers.clear()
        if self._connector is not None:
            self._connector.close()
        self._connector = None
