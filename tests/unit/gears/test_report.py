"""The figures that a worker sends with its heartbeat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gears.applying.report import Report, TargetReport, added


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, in a list of one."""
    now = [1000.0]
    monkeypatch.setattr("gears.applying.report.time.time", lambda: now[0])
    return now


def state(target: TargetReport) -> str:
    return target.state[0]


def test_a_target_starts_runs_waits_and_runs_again() -> None:
    target = TargetReport()
    assert target.state == ("starting", "")
    target.claimed("a")
    assert target.state == ("running", "")
    target.failed("a", "connection refused")
    assert target.state == ("waiting", "connection refused")
    target.committed("a", 1, 0, 0)
    assert target.state == ("running", "")


def test_a_target_waits_as_long_as_any_lane_does() -> None:
    target = TargetReport()
    target.failed("a", "deadlock")
    target.committed("b", 1, 0, 0)
    assert target.state == ("waiting", "deadlock")
    target.forget_lanes()
    assert state(target) == "starting"


def test_counts_add_up(clock: list[float]) -> None:
    target = TargetReport()
    target.committed("a", 3, 0, 0)
    target.committed("b", 4, 0, 0)
    target.failed("a", "away")
    target.count(dead_letters=2)
    target.count(skipped=5)
    document = target.document()
    counted = {name: document[name] for name in ("applied", "dead_letters", "skipped", "retries")}
    assert counted == {"applied": 7, "dead_letters": 2, "skipped": 5, "retries": 1}
    assert (document["state"], document["last_error"]) == ("waiting", "away")


def test_the_lag_is_of_the_oldest_and_the_newest_change_of_each_batch(clock: list[float]) -> None:
    target = TargetReport()
    assert target.document()["lag_ms"] == {"p50": None, "p99": None}
    for late in range(10):
        target.committed("a", 1, 1_000_000 - late * 100, 1_000_000 - late)
    assert target.document()["lag_ms"] == {"p50": 9.0, "p99": 900.0}


def test_a_lag_is_forgotten_after_half_a_minute(clock: list[float]) -> None:
    target = TargetReport()
    target.committed("a", 1, 0, 0)
    clock[0] += 30.0
    assert target.document()["lag_ms"]["p99"] == 1_000_000.0
    clock[0] += 0.1
    assert target.document()["lag_ms"]["p99"] is None


def test_a_clock_that_was_set_back_makes_no_negative_lag(clock: list[float]) -> None:
    for oldest, newest in ((2_000_000, 2_000_000), (1_000_000, 2_000_000)):
        target = TargetReport()
        target.committed("a", 1, oldest, newest)
        assert target.document()["lag_ms"] == {"p50": 0.0, "p99": 0.0}
        assert min(lag for _, lag in target._lags) == 0.0


def whole(worker: Report) -> tuple[str, str]:
    document: dict[str, Any] = json.loads(worker.text())
    return document["state"], document["error"]


def test_the_worker_is_as_well_as_its_worst_target() -> None:
    worker = Report("w", 3)
    worker.targets = {"a": TargetReport(), "b": TargetReport()}
    worker.set_state("running")
    assert whole(worker) == ("starting", "")
    for each in worker.targets.values():
        each.claimed("lane")
    assert whole(worker) == ("running", "")
    worker.targets["b"].failed("lane", "no route to host")
    assert whole(worker) == ("waiting", "no route to host")


def test_what_the_worker_says_of_itself_goes_before_its_targets() -> None:
    worker = Report("w", 3)
    worker.targets = {"a": TargetReport()}
    worker.targets["a"].failed("lane", "away")
    worker.set_state("fenced", "another worker has the lanes")
    assert whole(worker) == ("fenced", "another worker has the lanes")
    assert json.loads(worker.text())["version"] == 3


def test_changes_are_counted_by_function_and_commit(clock: list[float]) -> None:
    target = TargetReport()
    target.arrived(2, [999_000, 999_990].__getitem__, {"people": 2, "pets": 1})
    target.arrived(1, [999_999].__getitem__, {"people": 1})
    document = target.document()
    assert (document["changes"], document["commits"]) == (3, 2)
    assert document["functions"] == {"people": 3, "pets": 1}
    assert document["lag_histogram"]["count"] == 3


def test_the_figures_of_two_processes_are_added() -> None:
    one, other = TargetReport(), TargetReport()
    one.arrived(2, [0, 0].__getitem__, {"people": 2})
    other.arrived(1, [0].__getitem__, {"people": 1, "pets": 1})
    other.failed("a", "away")
    made = added({**one.document(), "state": "running"}, other.document())
    assert (made["changes"], made["retries"], made["functions"]) == (3, 1, {"people": 3, "pets": 1})
    assert (made["lag_histogram"]["count"], made["state"], made["last_error"]) == (3, "waiting", "away")
