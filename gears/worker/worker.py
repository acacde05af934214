"""A worker's life: what it runs for each lane of its deployment, until it is to end."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import redis

import connectors
from connectors import Connector, ConnectorError, TargetError, Unavailable
from connectors.bookkeeping import recall
from gears.applying.report import Report, TargetReport
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.worker import claims, holds, lanes
from gears.worker.aside import aside
from gears.worker.backoff import Backoff
from gears.worker.crews import Crews
from gears.worker.lanes import Lanes
from gears.worker.logs import event
from gears.worker.preparation import Preparation
from gears.worker.shared import Shared

log = logging.getLogger("gearsync.worker")

EXIT_STOPPED, EXIT_FAILED, EXIT_FENCED = 0, 1, 3
HEARTBEAT_SECONDS = 1.0
REFUSED_SECONDS = 5.0
"""A supervised worker that Redis, which lives, has refused for so long ends: the module greets the next one
with the password and the port of the day."""
STOP_SECONDS = 8.0
"""How long the batch in flight may take at the end; after that it is rolled back."""
MUTE_SECONDS = 3.0
"""A Redis that has not answered for so long at the end is not waited for: the checkpoint knows what is in SQL
and was not acknowledged."""


class Worker:
    """One worker process; ``run`` is its life and returns its exit code."""

    def __init__(self, url: str, name: str, work_dir: Path, supervised: bool = False) -> None:
        self._url = url
        self._name = name
        self._work_dir = work_dir
        self._supervised = supervised
        self._refused_since: float | None = None
        self._failed = False
        self._id = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._resumed = threading.Event()
        self._report = Report(self._id, 0)
        self._shared: Shared | None = None
        self._crews: Crews | None = None
        self._lanes: Lanes | None = None
        self._targets: dict[str, TargetReport] = {}
        self.asked_to_stop = False

    def stop(self, why: str) -> None:
        """Ask the worker to end after the batch in flight."""
        if not self._stop.is_set():
            log.info("stopping: %s", why, extra=event("stopping", why=why))
        self._stop.set()
        if self._shared is not None:
            self._shared.stop.set()

    def serve_metrics(self, host: str, port: int) -> None:
        """Serve this worker's metrics as long as it runs."""
        # Not a cheap import, and most workers serve none.
        from gears.worker import serving

        collector = serving.WorkerCollector(self._url, self._name, self._report.document)
        serving.start(collector, host, port, self._stop)

    # -- Life --------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Do the worker's work to its end; return the exit code of the process."""
        try:
            fetched = self._patiently(self._fetch)
        except PayloadError as error:
            log.error(
                "deployment %s: %s", self._name, error, extra=event("payload_refused", error=str(error))
            )
            return EXIT_FAILED
        if fetched is None:
            return EXIT_STOPPED if self._stop.is_set() and not self._failed else EXIT_FAILED
        deployment, digest = fetched
        self._report.version = deployment.version
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        preparation = Preparation(self._url, self._name, self._work_dir, self._report, self._stop)
        transforms = preparation.run(deployment)
        if transforms is None:
            return EXIT_FAILED if self._failed else EXIT_STOPPED
        # Assigned as a whole: the heartbeat reads it meanwhile.
        self._targets = self._report.targets = {name: TargetReport() for name in deployment.targets}
        shared = Shared(self._url, deployment, self._id, self._opener(deployment), transforms, digest)
        self._shared = shared
        self._crews = crews = Crews(shared, self._targets)
        if self._stop.is_set():
            shared.stop.set()
        version = deployment.version
        log.info(
            "deployment %s version %d: working", self._name, version, extra=event("working", version=version)
        )
        self._work(shared, crews)
        return self._end(shared, crews)

    def _end(self, shared: Shared, crews: Crews) -> int:
        began = time.monotonic()
        heard = aside(self._ping)
        crews.halt(MUTE_SECONDS)
        # One that refuses us has answered.
        is_mute = not wait_for([heard], began + MUTE_SECONDS - time.monotonic()).done
        if not is_mute:
            crews.halt(began + STOP_SECONDS - time.monotonic())
        hangs = any(runner.thread.is_alive() for runner in crews.runners())
        if hangs:
            log.warning(
                "%s does not answer: the batch in flight is applied at the next start, unless it is in SQL",
                "Redis" if is_mute else "the database",
                extra=event("rolled_back"),
            )
        if not is_mute:
            self._forget(shared, crews, hangs)
        if shared.fenced:
            log.error("fenced: %s", shared.fenced, extra=event("fenced", error=shared.fenced))
            self._report.set_state("fenced", shared.fenced)
            self._beat_once()
            return EXIT_FENCED
        return EXIT_FAILED if self._failed else EXIT_STOPPED

    def _ping(self) -> None:
        with lanes.connect(self._url) as client:
            client.ping()

    def _pause(self, crews: Crews) -> None:
        """Have nothing to do with the databases, no connection either, until the deployment is resumed."""
        log.info("paused: changes wait in their lanes", extra=event("paused"))
        while not crews.halt(HEARTBEAT_SECONDS) and not self._stop.is_set():
            continue
        crews.dismiss()
        self._resumed.clear()
        self._report.set_state("paused")
        while not self._resumed.is_set() and not self._stop.is_set():
            self._resumed.wait(HEARTBEAT_SECONDS)
        log.info("resumed")

    def _forget(self, shared: Shared, crews: Crews, hangs: bool) -> None:
        """When the deployment is undeployed, nothing is kept in the databases for it; ``hangs``: one of them
        does not answer.
        """
        try:
            with lanes.connect(self._url) as client:
                status = json.loads(client.execute_command("GEARSYNC.STATUS"))
        except redis.RedisError as error:
            # It may be away, which is no reason to forget anything.
            log.debug("what the databases keep stays: %s", error)
            return
        states = {each["name"]: each["state"] for each in status["deployments"]}
        state = states.get(self._name, "gone")
        if status["role"] != "primary" or state not in ("draining", "gone"):
            return
        try:
            for each in crews.followers():
                each.forget()
        except (redis.RedisError, ConnectorError) as error:
            told = event("outbox_kept", error=str(error))
            log.warning("the outbox is kept for this worker for a week: %s", error, extra=told)
        if state == "gone" and not hangs:
            self._forget_letters(shared)

    def _forget_letters(self, shared: Shared) -> None:
        known = self._lanes.lanes if self._lanes is not None else ()
        try:
            for target in {lane.target for lane in known}:
                connector = shared.open_connector(target)
                try:
                    for lane in known:
                        if lane.target == target:
                            recall.forget(connector, lane.stream)
                finally:
                    connector.close()
        except ConnectorError as error:
            log.warning("what SQL remembers of dead letters stays for two hours: %s", error)

    def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do something with Redis, again and again while Redis is away."""
        backoff = Backoff(most=5.0)
        while not self._stop.is_set():
            try:
                found = act()
                self._refused_since = None
                return found
            except redis.RedisError as error:
                self._note_refusal(error)
                seconds = backoff.next_seconds()
                told = event("redis_away", error=str(error))
                log.warning("Redis: %s; trying again in %.1f s", error, seconds, extra=told)
                self._stop.wait(seconds)
        return None

    def _note_refusal(self, error: redis.RedisError) -> None:
        # A loading or a slow Redis has another way to say it, and goes by.
        refused = isinstance(error, redis.ConnectionError) and not isinstance(error, redis.BusyLoadingError)
        if not self._supervised or not refused:
            return
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > REFUSED_SECONDS:
            self._failed = True
            self.stop(f"Redis lives and takes no connection of this worker ({error})")

    def _fetch(self) -> tuple[Deployment, str] | None:
        with lanes.connect(self._url) as client:
            fetched = lanes.fetch_deployment(client, self._name)
        if fetched is None:
            told = event("no_deployment")
            log.error("there is no deployment %s on this server; deploy it first", self._name, extra=told)
        return fetched

    def _opener(self, deployment: Deployment) -> Callable[..., Connector]:
        def open_connector(target_name: str, **limits: float) -> Connector:
            target = deployment.targets[target_name]
            try:
                return connectors.connect(target.resolve(), target.schema, **limits)
            except TargetError as error:
                # A variable or a file is missing here, which can be mended while the worker waits.
                raise Unavailable(str(error)) from error

        return open_connector

    # -- Lanes -------------------------------------------------------------------------------------------

    def _work(self, shared: Shared, crews: Crews) -> None:
        while not self._stop.is_set() and not shared.stop.is_set():
            if self._report.state != "running":
                # From the look at the lanes on, nobody may take this worker for one that does nothing.
                self._report.set_state("starting")
            known = self._patiently(lambda: self._fetch_lanes(crews))
            if known is None:
                return
            if not shared.runs(known.version, known.digest):
                self.stop(f"version {known.version} replaces version {shared.deployment.version}")
                return
            self._lanes = known
            shared.owner = claims.name_of(self._id, known)
            self._changed.clear()
            if known.state == "paused":
                self._pause(crews)
                continue
            self._report.set_state("running")
            self._run_lanes(shared, crews, known)

    def _fetch_lanes(self, crews: Crews) -> Lanes:
        with lanes.connect(self._url) as client:
            return self._look(client, crews)

    def _look(self, client: redis.Redis, crews: Crews) -> Lanes:
        at = time.monotonic()
        known = lanes.fetch_lanes(client, self._name)
        crews.note(at, known.paused)
        return known

    def _run_lanes(self, shared: Shared, crews: Crews, known: Lanes) -> None:
        """Run the lanes until they change."""
        count = len(known.lanes)
        log.info(
            "epoch %d, %d lanes", known.epoch, count, extra=event("lanes", epoch=known.epoch, count=count)
        )
        crews.begin(known)
        while not (self._stop.is_set() or shared.stop.is_set() or self._changed.is_set()):
            crews.step()
            self._changed.wait(0.1)
        if not self._stop.is_set() and not shared.stop.is_set():
            self._join_runners(crews)

    def _join_runners(self, crews: Crews) -> None:
        for runner in crews.runners():
            runner.halt()
        for runner in crews.runners():
            while runner.thread.is_alive() and not self._stop.is_set():
                runner.thread.join(0.5)

    # -- Heartbeat ---------------------------------------------------------------------------------------

    def _beat(self) -> None:
        client = lanes.connect(self._url)
        while not self._stop.is_set():
            try:
                pulse = lanes.heartbeat(client, self._name, self._id, self._report.text())
                self._refused_since = None
                if pulse.state == "drain":
                    for each in self._crews.followers() if self._crews is not None else ():
                        each.halt()
                if pulse.state == "stop":
                    self.stop("the deployment is gone from this server, or it is a replica now")
                elif pulse.version != self._report.version:
                    self.stop(f"version {pulse.version} replaces version {self._report.version}")
                elif (pulse.state == "pause") != (self._report.state == "paused"):
                    (self._changed if pulse.state == "pause" else self._resumed).set()
                elif self._crews is not None and self._differs(self._look(client, self._crews)):
                    self._changed.set()
                elif self._shared is not None and not self._shared.deployment.is_through:
                    self._shared.hold_number = holds.fetch(client, self._name).number
            except redis.RedisError as error:
                log.debug("heartbeat: %s", error)
                self._note_refusal(error)
            self._stop.wait(HEARTBEAT_SECONDS)
        client.close()

    def _beat_once(self) -> None:
        """Tell the last state: the status shows it when nobody else beats."""
        try:
            with lanes.connect(self._url) as client:
                lanes.heartbeat(client, self._name, self._id, self._report.text())
        except redis.RedisError as error:
            log.debug("heartbeat: %s", error)

    def _differs(self, now: Lanes) -> bool:
        """Whether the lanes must be claimed anew: another epoch, or a lane that was not there; or not by this
        worker, because another deployment has the name.
        """
        if self._lanes is None or self._shared is None:
            return False
        if not self._shared.runs(now.version, now.digest):
            return True
        known = {lane.stream for lane in self._lanes.lanes}
        return now.term != self._lanes.term or any(lane.stream not in known for lane in now.lanes)
