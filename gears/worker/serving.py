"""A worker's own metrics, served while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gears.worker.logs import event
from gears.worker.metrics import OF_WORKERS, Exposition

log = logging.getLogger("gearsync.worker")

RETRY_SECONDS = 5.0
"""How often a port is tried that somebody else has: the worker of the version before may still be ending."""


class WorkerCollector(Collector):
    """Makes metrics of what a worker would report now."""

    def __init__(self, url: str, deployment: str, document: Callable[[], dict[str, Any]]) -> None:
        self._labels = (shard_of(url), deployment)
        self._document = document

    def describe(self) -> Iterable[Metric]:
        """Return nothing; what there is depends on the report."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of what the worker would report now."""
        report = self._document()
        made = Exposition(OF_WORKERS)
        made.add("gearsync_worker_up", self._labels, 1)
        made.add("gearsync_worker_paused", self._labels, report["state"] == "paused")
        made.add_report(self._labels, report)
        yield from made.families()


def shard_of(url: str) -> str:
    """Return host:port, or the path of the socket, of a URL; never what else stands in it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "localhost"
    return f"[{host}]:{parts.port or 6379}" if ":" in host else f"{host}:{parts.port or 6379}"


def start(collector: Collector, host: str, port: int, stop: threading.Event) -> None:
    """Serve from a thread until ``stop``; a port that is taken is waited for, and changes go on meanwhile."""

    def serve() -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        while not stop.is_set():
            try:
                server, _ = start_http_server(port, host, registry)
            except OSError as error:
                log.warning(
                    "no metrics: can't listen on %s:%d: %s; trying again",
                    *(host, port, error.strerror),
                    extra=event("metrics_wait", error=error.strerror),
                )
                stop.wait(RETRY_SECONDS)
            else:
                port_taken = server.server_port
                log.info("metrics are at %s:%d", host, port_taken, extra=event("metrics", port=port_taken))
                stop.wait()
                server.shutdown()
                server.server_close()

    threading.Thread(target=serve, name="metrics", daemon=True).start()
