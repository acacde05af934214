"""What a worker needs before it works: its deployment's requirements installed, its transforms loaded."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import redis

from gears.applying.report import Report
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.declaring.functions import Transform
from gears.worker import folders, lanes, requirements
from gears.worker.backoff import Backoff
from gears.worker.logs import event
from gears.worker.requirements import RequirementsError

log = logging.getLogger("gearsync.worker")


DRIVERS = ("psycopg", "pymysql")
"""What the connectors import when they connect."""


def use(folder: Path) -> None:
    """Have the source of a deployment find what it requires; the worker goes on with the drivers of its own,
    of which a requirement, or one of a requirement, may be another version.
    """
    for name in DRIVERS:
        # One that is not there is missed when it is needed, with a sentence.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


class Preparation:
    """Tries again until all is there, or the worker is to stop."""

    def __init__(self, url: str, name: str, work_dir: Path, report: Report, stop: threading.Event) -> None:
        self._url = url
        self._name = name
        self._work_dir = work_dir
        self._report = report
        self._stop = stop
        self._held: int | None = None

    def run(self, deployment: Deployment) -> dict[str, Transform] | None:
        """Install what the deployment requires and load its transforms; None: asked to stop meanwhile."""
        backoff = Backoff(first=1.0)
        while not self._stop.is_set():
            try:
                self._report.set_state("installing", self._report.error)
                folder = self._install(deployment)
                if folder is not None:
                    use(folder)
                return deployment.transforms()
            except (RequirementsError, redis.RedisError, DeclarationError) as error:
                self._not_ready(str(error), backoff)
            except (Exception, SystemExit) as error:
                # The user's own code, which may raise anything, and call sys.exit.
                self._not_ready(f"{deployment.source_name} raised {type(error).__name__}: {error}", backoff)
        return None

    def _install(self, deployment: Deployment) -> Path | None:
        """Return the folder of what the deployment requires, which nobody removes while this process runs."""
        while True:
            folder = requirements.install(deployment, self._work_dir, self._fetch_wheel, self._stop.is_set)
            if folder is None:
                return None
            try:
                held = folders.hold(folder)
            except OSError as error:
                raise RequirementsError(f"{folder} can't be used: {error.strerror}") from error
            if held is not None:
                if self._held is not None:
                    # Of the try before.
                    os.close(self._held)
                self._held = held
                folders.remove_unused(folder.parent)
                return folder

    def _not_ready(self, error: str, backoff: Backoff) -> None:
        seconds = backoff.next_seconds()
        told = event("not_ready", error=error)
        log.error("%s; trying again in %.0f s", error, seconds, extra=told)
        self._report.set_state("failed", error)
        self._stop.wait(seconds)

    def _fetch_wheel(self, field: str) -> bytes:
        with lanes.connect(self._url) as client:
            status = json.loads(client.execute_command("GEARSYNC.STATUS"))
            if not status["tag"]:
                raise RequirementsError("this shard has no slot yet; deploy again with --wheels once it has")
            content: Any = client.hget(f"gearsync:{{{status['tag']}}}:wheels:{self._name}", field)
        if content is None:
            name = field.rpartition("/")[2]
            raise RequirementsError(f"the wheel {name} was not uploaded; deploy again with --wheels")
        return bytes(content)
