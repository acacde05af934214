"""Run workers outside Redis: one process for each external deployment and shard, started again when it dies.

A deployment whose worker runs elsewhere is left alone for as long as that worker reports, so that a second
``gearsync worker`` is a standby and not a rival.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any, NamedTuple

from deploy import output, status
from deploy.output import CommandError
from deploy.reaching import shards
from deploy.reaching.shards import Shard
from gears.worker import logs
from gears.worker.aside import aside
from gears.worker.logs import event

log = logging.getLogger("gearsync.workers")

POLL_SECONDS = 0.5
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0
#: A worker that ran for so many seconds was sound: the next backoff is the first again.
STEADY_SECONDS = 60.0
#: A worker elsewhere that reported within so many milliseconds is alive.
FRESH_MS = 10_000
KILL_AFTER = 30.0
EXIT_FENCED = 3


class Place(NamedTuple):
    """One worker's duty: a deployment on the shard at an address."""

    deployment: str
    address: str


@dataclass
class _Run:
    """A worker's process, or the time at which the next one may start."""

    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_start: float = 0.0
    backoff: float = BACKOFF_FIRST


class Workers:
    """All workers that this process runs for the Redis at ``url``. ``only`` names one deployment; None: all
    external ones.
    """

    def __init__(self, url: str, only: str | None = None, log_format: str = "console") -> None:
        self.url = url
        self.only = only
        self.log_format = log_format
        self._runs: dict[Place, _Run] = {}
        self._ending = False
        self._trouble = ""

    def ask_to_end(self) -> None:
        """Make ``run`` end all workers and return."""
        self._ending = True

    def run(self) -> None:
        """Run until asked to end. Raises CommandError at once when Redis can't be reached, or when the named
        deployment can't be run here.
        """
        self._require([document for _, document in self._asked()])
        try:
            while not self._ending:
                self._reap()
                self._look()
                time.sleep(POLL_SECONDS)
        finally:
            self._end_all()

    def _require(self, statuses: list[dict[str, Any]]) -> None:
        if self.only is None or self._ending:
            return
        modes = {each["name"]: each["worker"]["mode"] for one in statuses for each in one["deployments"]}
        if self.only not in modes:
            raise CommandError(
                f"there is no deployment {self.only}.", "`gearsync status` shows those there are."
            )
        if modes[self.only] != "external":
            raise CommandError(
                f"the worker of {self.only} is run by Redis itself.",
                'deploy it with worker = "external", or load the module with SUPERVISE no.',
            )

    def _look(self) -> None:
        """Start what is due on each shard there is now, and end what belongs to none any more."""
        try:
            self._start_due(self._asked())
        except CommandError as error:
            # The workers notice by themselves that Redis is away, and go on when it is back.
            if error.message != self._trouble:
                self._tell(
                    logging.WARNING, f"{error.message} Trying again.", "redis_away", error=error.message
                )
            self._trouble = error.message
        else:
            self._trouble = ""

    def _asked(self) -> list[tuple[Shard, dict[str, Any]]]:
        """Return each shard there is now with its status; none when asked to end meanwhile: a Redis that does
        not answer is not waited for.
        """
        asking = aside(self._ask)
        while not self._ending:
            if wait_for([asking], POLL_SECONDS).done:
                return asking.result()
        return []

    def _ask(self) -> list[tuple[Shard, dict[str, Any]]]:
        with shards.connect(self.url) as found:
            return list(zip(found.shards, status.fetch(found)))

    def _start_due(self, found: list[tuple[Shard, dict[str, Any]]]) -> None:
        if self._ending:
            return
        for shard, document in found:
            for deployment in document["deployments"]:
                if deployment["worker"]["mode"] == "external" and self.only in (None, deployment["name"]):
                    self._start_if_due(Place(deployment["name"], shard.address), shard, deployment["worker"])
        addresses = {shard.address for shard, _ in found}
        for place, run in self._runs.items():
            if run.process is not None and place.address not in addresses:
                gone = f"{place.address} is no primary any more; its worker of {place.deployment} ends."
                self._tell(logging.INFO, gone, "worker_ends", **place._asdict())
                run.process.terminate()

    def _start_if_due(self, place: Place, shard: Shard, reported: dict[str, Any]) -> None:
        run = self._runs.setdefault(place, _Run())
        if run.process is not None or time.monotonic() < run.next_start:
            return
        alive_elsewhere = 0 <= reported["heartbeat_age_ms"] < FRESH_MS
        if alive_elsewhere and run.started == 0.0:
            return
        run.started = time.monotonic()
        run.process = _start(place, shard, self.log_format)
        started = f"Worker of {place.deployment} on {place.address} started, pid {run.process.pid}."
        self._tell(logging.INFO, started, "worker_started", **place._asdict(), pid=run.process.pid)

    def _reap(self) -> None:
        for place, run in self._runs.items():
            if run.process is None or run.process.poll() is None:
                continue
            code = run.process.returncode
            run.process = None
            if time.monotonic() - run.started > STEADY_SECONDS:
                run.backoff = BACKOFF_FIRST
            run.next_start = time.monotonic() + run.backoff
            if code == EXIT_FENCED:
                # Somebody took over: start again only once that worker is silent.
                run.started = 0.0
            ended = (
                f"Worker of {place.deployment} on {place.address} ended, {_reason(code)}; "
                f"it is looked at again in {run.backoff:g} s."
            )
            self._tell(logging.INFO, ended, "worker_ended", **place._asdict(), code=code)
            run.backoff = min(run.backoff * 2, BACKOFF_MOST)

    def _tell(self, level: int, message: str, name: str, **fields: Any) -> None:
        """Say what goes on: a sentence, or as the workers do, a line of JSON."""
        if self.log_format == "json":
            log.log(level, "%s", message, extra=event(name, **fields))
        else:
            output.status(message)

    def _end_all(self) -> None:
        running = [run.process for run in self._runs.values() if run.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + KILL_AFTER
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late = f"worker {process.pid} did not end within {KILL_AFTER:g} s and was killed."
                self._tell(logging.WARNING, late, "worker_killed", pid=process.pid)
                process.kill()
                process.wait()


def run(url: str, only: str | None, log_format: str) -> None:
    """Run workers until SIGTERM, SIGINT or SIGHUP."""
    workers = Workers(url, only, log_format)
    if log_format == "json":
        logs.set_up(log_format)
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: workers.ask_to_end()) for number in ours}
    try:
        workers.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(place: Place, shard: Shard, log_format: str) -> subprocess.Popen[bytes]:
    # The URL goes by the environment: a password in the arguments would be in everybody's process list.
    environment = {**os.environ, "GEARSYNC_REDIS_URL": shard.url}
    # One port is for one process: ours.
    environment.pop("GEARSYNC_WORKER_METRICS_LISTEN", None)
    environment[logs.VARIABLE] = log_format
    command = [sys.executable, "-m", "gears.worker", "--deployment", place.deployment]
    # A group of its own: a Ctrl-C in the terminal reaches us, and we end the workers in order.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)


def _reason(code: int) -> str:
    if code == EXIT_FENCED:
        return "another worker owns its lanes"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
