"""The metrics of all shards, made of their status documents whenever Prometheus asks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from deploy import output
from deploy.output import CommandError
from deploy.status import HEARTBEAT_LIMIT_MS
from deploy.watching.look import AwaitedWatch
from gears.worker.metrics import ALL, Exposition


class Looking(Protocol):
    """Who looks at the shards: a ``watching.Watch``, or one that waits for its Redis."""

    def look(self) -> list[dict[str, Any]]:
        """Return what ``Watch.look`` does."""
        ...


class ShardsCollector(Collector):
    """Looks at the shards each time it is asked, once at a time: who asks meanwhile gets the same, since two
    looks one after the other can take longer than Prometheus waits.
    """

    def __init__(self, watched: Looking) -> None:
        self._watched = watched
        self._lock = threading.Lock()
        self._documents: list[dict[str, Any]] = []
        self._ended = -1.0

    def describe(self) -> Iterable[Metric]:
        """Return nothing: then registering asks no shard."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Look at the shards, and yield the metrics of all."""
        asked = time.monotonic()
        with self._lock:
            if self._ended < asked:
                self._documents = self._watched.look()
                self._ended = time.monotonic()
            documents = self._documents
        yield from families(documents)


def families(documents: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    """Return the metrics of what ``Watch.look`` found."""
    made = Exposition(ALL)
    for document in documents:
        shard = (document["address"],)
        made.add("gearsync_shard_up", shard, "error" not in document)
        for deployment in document.get("deployments", []):
            _add_deployment(made, (*shard, deployment["name"]), deployment)
    yield from made.families()


def _add_deployment(made: Exposition, labels: tuple[str, str], document: dict[str, Any]) -> None:
    worker, backlog = document["worker"], document["backlog"]
    age = worker["heartbeat_age_ms"]
    # One that hangs is not up, whatever its process does.
    is_up = worker["state"] == "running" and 0 <= age <= HEARTBEAT_LIMIT_MS
    made.add("gearsync_worker_up", labels, is_up)
    made.add("gearsync_worker_paused", labels, bool(document.get("paused")))
    made.add("gearsync_worker_restarts", labels, worker["restarts"])
    made.add("gearsync_heartbeat_age_seconds", labels, age / 1000 if age >= 0 else None)
    made.add("gearsync_capture_failures", labels, document["failed"])
    made.add("gearsync_missed_writes", labels, document["missed"])
    made.add("gearsync_refused_writes", labels, document["refused_writes"])
    made.add("gearsync_backlog_bytes", labels, backlog["bytes"])
    made.add("gearsync_backlog_limit_entries", labels, backlog["limit_entries"])
    made.add("gearsync_backlog_limit_bytes", labels, backlog["limit_bytes"])
    for target in document["targets"]:
        _add_target(made, (*labels, target["name"]), target)
    for function in document.get("functions") or []:
        place = (*labels, function["target"], function["name"])
        made.add("gearsync_function_changes_captured", place, function["captured"])
        made.add("gearsync_function_paused", place, bool(function.get("paused")))
        made.add("gearsync_function_held_changes", place, function.get("held", 0))
    made.add_report(labels, worker.get("report") or {})


def _add_target(made: Exposition, labels: tuple[str, ...], target: dict[str, Any]) -> None:
    lanes = target["lanes"]
    # What a pause holds back waits on purpose.
    is_paused = bool(target.get("paused"))
    waiting = [each for each in lanes if each.get("status") != "held" and not is_paused]
    ages = [each["oldest_ms"] / 1000 for each in waiting if "oldest_ms" in each]
    made.add("gearsync_changes_captured", labels, target.get("captured"))
    made.add("gearsync_backlog_entries", labels, sum(each["length"] for each in lanes))
    made.add("gearsync_oldest_change_seconds", labels, max(ages, default=None))
    made.add("gearsync_dead_letters", labels, target["dead_letters"])
    made.add("gearsync_target_paused", labels, is_paused)


def registry_of(watched: Looking) -> CollectorRegistry:
    """Return a registry that has these metrics alone."""
    registry = CollectorRegistry()
    registry.register(ShardsCollector(watched))
    return registry


def text_of(watched: Looking) -> str:
    """Return the metrics as Prometheus reads them."""
    return generate_latest(registry_of(watched)).decode()


@contextlib.contextmanager
def served(url: str, host: str, port: int) -> Iterator[None]:
    """Serve the metrics of the shards behind ``url`` from a thread, also before they answer. Raises
    CommandError.
    """
    with AwaitedWatch(url) as watched:
        try:
            server, thread = start_http_server(port, host, registry_of(watched))
        except OSError as error:
            raise CommandError(
                f"can't listen on {host}:{port}: {error.strerror}.", "give another address or port."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        output.status(f"Metrics are at http://{shown}:{server.server_port}/metrics.")
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
