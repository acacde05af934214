"""The thread that follows the tables of one target: rows that others change in SQL reach Redis."""

from __future__ import annotations

import logging
import threading
import time

import redis

from connectors import ConnectorError
from connectors.outbox import Followers
from gears.applying.report import TargetReport
from gears.worker import lanes
from gears.worker.backoff import Backoff
from gears.worker.following.place import Address, Place
from gears.worker.following.progress import Trail
from gears.worker.following.session import LABEL, Following
from gears.worker.logs import event
from gears.worker.shared import Shared
from gears.worker.task import Task, fault

log = logging.getLogger("gearsync.worker")

SLICE_SECONDS = 0.25
"""How late a stop is noticed."""


class Follower(Task):
    """The thread that follows the tables of one target for the functions of one deployment."""

    def __init__(self, shared: Shared, target: str, report: TargetReport) -> None:
        super().__init__(shared, f"{LABEL} {target}")
        self._target = target
        self._report = report
        self._backoff = Backoff()
        self._trail = Trail()
        self._address: Address | None = None
        self._other_term = threading.Event()

    def see_other_term(self) -> None:
        """The server has another epoch, or is another one: look where Redis is by now."""
        self._other_term.set()

    def forget(self) -> None:
        """Leave the outbox for good, so that nothing is kept there for this follower. Raises RedisError or
        ConnectorError.
        """
        if self._address is None:
            return
        connector = self._shared.open_connector(self._target)
        client = lanes.connect(self._shared.url)
        try:
            Followers(connector).forget(self._address.name)
            Place(client, self._address, self._target).forget()
        finally:
            client.close()
            connector.close()

    def _run(self) -> None:
        while not self.over:
            try:
                self._session()
            except redis.RedisError as error:
                self._wait(f"Redis: {error}")
            except ConnectorError as error:
                self._wait(str(error))
            except Exception as error:
                self._wait(fault(error, LABEL, target=self._target))

    def _wait(self, error: str) -> None:
        seconds = self._backoff.next_seconds()
        self._report.failed(LABEL, f"{LABEL}: {error}")
        log.warning(
            "%s of %s: %s; trying again in %.1f s",
            *(LABEL, self._target, error, seconds),
            extra=event("around_waits", target=self._target, error=error),
        )
        self._halt.wait(seconds)

    def _session(self) -> None:
        shared = self._shared
        connector = shared.open_connector(self._target)
        # What a Redis that has gone has of it, the next one may not have: then the session must be over.
        client = lanes.connect(shared.url, steady=True)
        following: Following | None = None
        self._other_term.clear()
        try:
            following = Following(shared, self._target, connector, client, self._trail)
            self._address = following.address
            following.open()
            while not (self.over or self._other_term.is_set() or following.is_over):
                following.work()
                self._report.claimed(LABEL)
                self._report.around = following.figures()
                self._backoff.reset()
                self._pause(following)
        finally:
            if following is not None:
                following.close()
            client.close()
            connector.close()

    def _pause(self, following: Following) -> None:
        deadline = time.monotonic() + following.pause_seconds
        while not self.over:
            left = min(deadline - time.monotonic(), SLICE_SECONDS)
            if left <= 0 or following.wait(left, self._halt):
                return
