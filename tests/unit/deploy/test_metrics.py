"""The metrics: as Prometheus reads them, and as docs/operations.md names them."""

from __future__ import annotations

import re
import threading
import urllib.request
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from deploy.reaching.server_errors import ShardError
from deploy.watching import look as watching
from deploy.watching import metrics
from deploy.watching.look import AwaitedWatch
from gears.applying.report import Report, TargetReport
from gears.worker import serving
from gears.worker.listening import host_and_port
from gears.worker.metrics import ALL
from tests.unit.deploy.test_figures import AWAY, status

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"

Values = dict[str, list[tuple[dict[str, str], float]]]


class Looks:
    """Stands for the shards."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = list(documents)

    def look(self) -> list[dict[str, Any]]:
        return self._documents


def read(text: str) -> Values:
    """Return the samples by name, as prometheus-client's parser finds them."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def shard(address: str = "h:1") -> dict[str, Any]:
    """Return a document with a target that has applied 3 changes, one of them late."""
    target = TargetReport()
    target.claimed("lane")
    target.arrived(3, [1, 10**15, 10**15].__getitem__, {"people": 3})
    document = {**status(5, 3), "address": address}
    deployment = document["deployments"][0]
    deployment.update(failed=1, missed=2, refused_writes=3)
    deployment["worker"]["report"]["targets"]["a"] = target.document()
    return document


def text(*documents: dict[str, Any]) -> str:
    return metrics.text_of(Looks(*documents))


def test_values_and_labels() -> None:
    values = read(text(shard()))
    deployment = {"shard": "h:1", "deployment": "crm"}
    target = {**deployment, "target": "a"}
    assert values["gearsync_shard_up"] == [({"shard": "h:1"}, 1.0)]
    assert values["gearsync_changes_captured_total"] == [(target, 5.0)]
    assert values["gearsync_changes_applied_total"] == [(target, 3.0)]
    assert values["gearsync_function_changes_captured_total"] == [
        ({**target, "function": "people"}, 5.0),
        ({**target, "function": "pets"}, 0.0),
    ]
    assert values["gearsync_backlog_entries"] == [(target, 7.0)]
    assert values["gearsync_backlog_limit_entries"] == [(deployment, 10.0)]
    assert values["gearsync_oldest_change_seconds"] == [(target, 0.03)]
    assert values["gearsync_dead_letters"] == [(target, 4.0)]
    assert values["gearsync_worker_up"] == [(deployment, 1.0)]
    assert values["gearsync_target_up"] == [(target, 1.0)]


def test_the_lag_is_a_histogram_that_adds_up_over_shards() -> None:
    values = read(text(shard("h:1"), shard("h:2")))
    buckets = values["gearsync_lag_seconds_bucket"]
    assert {labels["shard"] for labels, _ in buckets} == {"h:1", "h:2"}
    assert sum(count for labels, count in buckets if labels["le"] == "3600") == 4
    assert sum(count for labels, count in buckets if labels["le"] == "+Inf") == 6
    assert [count for _, count in values["gearsync_lag_seconds_count"]] == [3, 3]


def test_a_shard_that_is_away_is_down_and_the_others_are_told() -> None:
    values = read(text(AWAY, shard("h:2")))
    assert values["gearsync_shard_up"] == [({"shard": "h:1"}, 0.0), ({"shard": "h:2"}, 1.0)]
    assert [labels["shard"] for labels, _ in values["gearsync_worker_up"]] == ["h:2"]


@pytest.mark.parametrize(
    "worker", [{"state": "backoff"}, {"heartbeat_age_ms": 60_000}, {"heartbeat_age_ms": -1, "report": None}]
)
def test_a_worker_that_does_not_run_or_report_is_down(worker: dict[str, Any]) -> None:
    document = shard()
    document["deployments"][0]["worker"].update(worker)
    assert [value for _, value in read(text(document))["gearsync_worker_up"]] == [0.0]


def test_two_who_ask_at_once_wait_for_one_look() -> None:
    """Of shards that hang, two would take longer than Prometheus waits."""
    looks, begun, go_on = [0], threading.Event(), threading.Event()

    class Slow(Looks):
        def look(self) -> list[dict[str, Any]]:
            looks[0] += 1
            begun.set()
            assert go_on.wait(30)
            return super().look()

    registry = metrics.registry_of(Slow(shard()))
    first, second = (threading.Thread(target=generate_latest, args=(registry,)) for _ in range(2))
    first.start()
    assert begun.wait(30)
    second.start()
    go_on.wait(0.2)
    go_on.set()
    first.join()
    second.join()
    assert looks == [1]
    generate_latest(registry)
    assert looks == [2]


def test_a_name_with_any_character_is_a_label() -> None:
    document = shard()
    document["deployments"][0]["functions"][0]["name"] = 'a"b\\c\nd'
    names = [
        labels["function"] for labels, _ in read(text(document))["gearsync_function_changes_captured_total"]
    ]
    assert names == ['a"b\\c\nd', "pets"]


def test_the_documentation_names_each_metric_and_its_labels() -> None:
    documented = re.findall(
        r"^\| `(gearsync_\w+)` \| (\w+) \| ([a-z, ]+) \|", OPERATIONS.read_text("utf-8"), re.M
    )
    defined = [
        (each.shown, each.family.__name__.replace("MetricFamily", "").lower(), ", ".join(each.labels))
        for each in ALL
    ]
    assert sorted(documented) == sorted(defined)
    assert {family.name for family in text_string_to_metric_families(text(shard()))} == {e.name for e in ALL}


def test_a_worker_serves_its_own_without_its_password() -> None:
    report = Report("w1", 1)
    report.targets = {"a": TargetReport()}
    report.targets["a"].arrived(2, [0, 0].__getitem__, {})
    collector = serving.WorkerCollector("redis://me:hunter2@db:7000/0", "crm", report.document)
    registry = CollectorRegistry()
    registry.register(collector)
    shown = generate_latest(registry).decode()
    labels = {"shard": "db:7000", "deployment": "crm", "target": "a"}
    assert read(shown)["gearsync_changes_applied_total"] == [(labels, 2.0)]
    assert "hunter2" not in shown


def test_a_worker_waits_for_a_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "RETRY_SECONDS", 0.02)
    report, stop = Report("w1", 1), threading.Event()
    collector = serving.WorkerCollector("redis://db", "crm", report.document)
    taken = start_http_server(0, "127.0.0.1", CollectorRegistry())[0]
    port = taken.server_port
    serving.start(collector, "127.0.0.1", port, stop)
    while "can't listen" not in caplog.text:
        stop.wait(0.01)
    taken.shutdown()
    taken.server_close()
    try:
        while True:
            try:
                shown = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                break
            except OSError:
                stop.wait(0.02)
    finally:
        stop.set()
    assert read(shown)["gearsync_worker_up"] == [({"shard": "db:6379", "deployment": "crm"}, 1.0)]


@pytest.mark.parametrize(
    ("url", "shard"), [("unix:///run/r.sock?db=0", "/run/r.sock"), ("redis://[::1]", "[::1]:6379")]
)
def test_the_shard_of_a_url(url: str, shard: str) -> None:
    assert serving.shard_of(url) == shard


@pytest.mark.parametrize("text", ["9464", "a..svc:80", "host:", ":80", "::1:80", "h:70000", "h:-1", ""])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        host_and_port(text)


def test_a_redis_that_is_away_at_the_start_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ShardError, match="none of"):
        AwaitedWatch("http://127.0.0.1:1")
    url = "redis://ann:secret@127.0.0.1:1"
    with AwaitedWatch(url) as watched:
        assert "can't be reached" in capsys.readouterr().err
        assert read(metrics.text_of(watched))["gearsync_shard_up"] == [({"shard": "127.0.0.1:1"}, 0.0)]
        monkeypatch.setattr(watching, "Watch", lambda url: Mock(look=Looks(shard()).look))
        assert read(metrics.text_of(watched))["gearsync_shard_up"] == [({"shard": "h:1"}, 1.0)]
