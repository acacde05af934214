"""The metrics that Prometheus reads: their names, and what of them a worker's report has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Union

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

SHARD = ("shard",)
DEPLOYMENT = (*SHARD, "deployment")
TARGET = (*DEPLOYMENT, "target")
FUNCTION = (*TARGET, "function")

Family = Union[CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily]


class Definition(NamedTuple):
    """A metric as docs/operations.md has it; a counter's name stands there with ``_total``."""

    name: str
    family: type[Family]
    labels: tuple[str, ...]
    help: str

    @property
    def shown(self) -> str:
        """The name as it is read."""
        return f"{self.name}_total" if self.family is CounterMetricFamily else self.name


_COUNTER, _GAUGE, _HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

OF_WORKERS = (
    Definition("gearsync_worker_up", _GAUGE, DEPLOYMENT, "Whether a worker runs and reports; 1 or 0."),
    Definition(
        "gearsync_worker_paused", _GAUGE, DEPLOYMENT, "Whether the deployment is paused on purpose; 1 or 0."
    ),
    Definition(
        "gearsync_target_up", _GAUGE, TARGET, "Whether nothing is in the worker's way to SQL; 1 or 0."
    ),
    Definition("gearsync_changes_applied", _COUNTER, TARGET, "Changes that are in SQL."),
    Definition("gearsync_function_changes_applied", _COUNTER, FUNCTION, "Changes in SQL, of each function."),
    Definition(
        "gearsync_rows_written", _COUNTER, TARGET, "Rows written to SQL, less than changes by coalescing."
    ),
    Definition("gearsync_commits", _COUNTER, TARGET, "SQL transactions that were committed."),
    Definition("gearsync_retries", _COUNTER, TARGET, "Failures after which something was tried again."),
    Definition("gearsync_changes_skipped", _COUNTER, TARGET, "Changes that no function covers any more."),
    Definition("gearsync_lag_seconds", _HISTOGRAM, TARGET, "From a write in Redis to its commit in SQL."),
)
OF_SHARDS = (
    Definition("gearsync_shard_up", _GAUGE, SHARD, "Whether the shard answers; 1 or 0."),
    Definition("gearsync_changes_captured", _COUNTER, TARGET, "Changes appended to the lanes of a target."),
    Definition(
        "gearsync_function_changes_captured", _COUNTER, FUNCTION, "Changes captured, of each function."
    ),
    Definition("gearsync_target_paused", _GAUGE, TARGET, "Whether the target is paused alone; 1 or 0."),
    Definition("gearsync_function_paused", _GAUGE, FUNCTION, "Whether the function is paused alone; 1 or 0."),
    Definition(
        "gearsync_function_held_changes", _GAUGE, FUNCTION, "Changes that a pause of the function holds back."
    ),
    Definition("gearsync_capture_failures", _COUNTER, DEPLOYMENT, "Changes that could not be captured."),
    Definition("gearsync_missed_writes", _COUNTER, DEPLOYMENT, "Writes to keys that fit no template whole."),
    Definition(
        "gearsync_refused_writes", _COUNTER, DEPLOYMENT, "Writes refused because the backlog was full."
    ),
    Definition("gearsync_backlog_entries", _GAUGE, TARGET, "Changes that wait."),
    Definition(
        "gearsync_backlog_bytes", _GAUGE, DEPLOYMENT, "About what the waiting changes take in memory."
    ),
    Definition(
        "gearsync_backlog_limit_entries", _GAUGE, DEPLOYMENT, "The limit of changes that wait; 0: none."
    ),
    Definition("gearsync_backlog_limit_bytes", _GAUGE, DEPLOYMENT, "The limit of their bytes; 0: none."),
    Definition("gearsync_oldest_change_seconds", _GAUGE, TARGET, "The age of the change that waits longest."),
    Definition("gearsync_dead_letters", _GAUGE, TARGET, "Dead letters that are kept."),
    Definition("gearsync_worker_restarts", _COUNTER, DEPLOYMENT, "Restarts of supervised workers."),
    Definition("gearsync_heartbeat_age_seconds", _GAUGE, DEPLOYMENT, "Since the worker's last report."),
)
ALL = (*OF_SHARDS, *OF_WORKERS)


class Exposition:
    """Collects values of the metrics that are defined."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        # Each family has its own signature of add_metric.
        self._families: dict[str, Any] = {
            each.name: each.family(each.name, each.help, labels=each.labels) for each in definitions
        }

    def add(self, name: str, labels: Sequence[str], value: float | None) -> None:
        """Add a value; None: nobody tells it."""
        if value is not None:
            self._families[name].add_metric(list(labels), value)

    def add_histogram(self, name: str, labels: Sequence[str], document: dict[str, Any]) -> None:
        """Add what ``LagHistogram.document`` gave."""
        buckets = [(f"{le:g}", count) for le, count in zip(document["le"], document["counts"])]
        self._families[name].add_metric(
            list(labels), [*buckets, ("+Inf", document["count"])], document["sum"]
        )

    def add_report(self, deployment: Sequence[str], report: dict[str, Any]) -> None:
        """Add what a worker's report tells of its targets."""
        for target, told in (report.get("targets") or {}).items():
            labels = (*deployment, target)
            self.add("gearsync_target_up", labels, told.get("state") == "running")
            self.add("gearsync_changes_applied", labels, told.get("changes"))
            self.add("gearsync_rows_written", labels, told.get("applied"))
            self.add("gearsync_commits", labels, told.get("commits"))
            self.add("gearsync_retries", labels, told.get("retries"))
            self.add("gearsync_changes_skipped", labels, told.get("skipped"))
            for name, count in (told.get("functions") or {}).items():
                self.add("gearsync_function_changes_applied", (*labels, name), count)
            if told.get("lag_histogram"):
                self.add_histogram("gearsync_lag_seconds", labels, told["lag_histogram"])

    def families(self) -> Iterator[Metric]:
        """Return the families, also those without a value, as prometheus-client takes them."""
        yield from self._families.values()
