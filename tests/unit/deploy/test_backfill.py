"""What a backfill decides without a server: which keys, how many at once, and how many there may be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deploy.backfill.chosen import choose
from deploy.backfill.estimate import share
from deploy.backfill.hint import existing_keys, new_functions
from deploy.backfill.limits import Backlog, Pace, Stop, Stopped, room_of
from deploy.backfill.place import Counts, Progress
from deploy.hosts.base import Deployed
from gears.declaring.template import Template
from tests.unit.deploy.faked import FakeHost, shards_of

FUNCTIONS = """
from gears import WriteBehind
from connectors import Target

target = Target("sqlite:///x.db", name="reporting")
WriteBehind(keys="person:{id}", table="persons", columns=["name"], name="one", target=target)
WriteBehind(keys="person:{number}", table="others", columns=["name"], name="two", target=target)
WriteBehind(keys="a*b:{x}:{y*}", table="third", columns=["name"], name="three", target=target)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "functions.py"
    path.write_text(FUNCTIONS)
    return str(path)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("person:{id}", b"person:?*"),
        ("p[1]?{{x}}:{id}:end", b"p\\[1\\]\\?{x}:?*:end"),
        ("a\\b^*{x*}", b"a\\\\b\\^\\*?*"),
    ],
)
def test_a_template_as_a_pattern_of_scan(text: str, pattern: bytes) -> None:
    assert Template(text).glob() == pattern


def test_templates_that_look_alike_are_one_scan(file: str) -> None:
    scans = choose(file, None, ()).scans
    assert [(each.pattern, len(each.templates)) for each in scans] == [(b"a\\*b:?*:?*", 1), (b"person:?*", 2)]
    assert scans[1].covers(b"person:1") and not scans[1].covers(b"person:1:2")
    assert [each.pattern for each in choose(file, None, ("one",)).scans] == [b"person:?*"]


def test_gearsyncs_own_keys_are_never_taken(tmp_path: Path) -> None:
    path = tmp_path / "functions.py"
    path.write_text(FUNCTIONS.replace("person:{id}", "{id*}"))
    [scan] = choose(str(path), None, ("one",)).scans
    assert scan.covers(b"x") and not scan.covers(b"gearsync:{0}:registry")


@pytest.mark.parametrize(
    ("backlog", "room"),
    [
        ({"entries": 0, "limit_entries": 0, "limit_bytes": 0}, 100),
        ({"entries": 99, "limit_entries": 10_000_000, "limit_bytes": 0}, 1),
        ({"entries": 100, "limit_entries": 0, "limit_bytes": 0}, 0),
        ({"entries": 40, "limit_entries": 90, "limit_bytes": 0}, 5),
        ({"entries": 0, "limit_entries": 1, "limit_bytes": 0}, 1),
        ({"entries": 0, "bytes": 500, "limit_entries": 0, "limit_bytes": 1000}, 0),
        ({"entries": 0, "bytes": 499, "limit_entries": 0, "limit_bytes": 1000}, 100),
        ({"entries": 7}, 93),
    ],
)
def test_room_is_never_near_the_bound_of_the_deployment(backlog: dict[str, Any], room: int) -> None:
    assert room_of(backlog, 100) == room


def test_the_rate_is_that_of_all_shards_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stop = Stop()
    monkeypatch.setattr(stop, "sleep", slept.append)
    pace = Pace(100, stop)
    assert pace.most(1000) == 10
    pace.keep(10)
    pace.keep(10)
    clock[0] += 5
    pace.keep(10)
    assert [round(each, 6) for each in slept] == [0.1, 0.2, 0.1]


def test_who_sleeps_is_woken_when_the_run_ends() -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        stop.sleep(1000)


def test_about_how_many_keys_there_are(file: str) -> None:
    scans = choose(file, None, ("one",)).scans
    sample = [b"person:1", b"other", None, b"person:2", b"x"]
    assert share(1000, sample, scans) == 500
    assert share(0, [None], scans) == 0


def test_a_place_comes_back_as_it_was() -> None:
    progress = Progress("host:1", "7", 1, 2**60, False, Counts(5, 3, 1, 1))
    assert Progress.from_json(progress.to_json()) == progress


def test_a_deploy_speaks_of_keys_of_new_functions_alone(file: str) -> None:
    deployment = choose(file, None, ()).deployment
    name = deployment.name
    whole = {name: Deployed(name, 1, "active", deployment.to_payload())}
    assert new_functions(deployment, [whole, whole]) == []
    assert new_functions(deployment, [whole, {}]) == deployment.functions
    former = choose(file, None, ()).deployment
    former.functions = former.functions[1:]
    less = {name: Deployed(name, 1, "active", former.to_payload())}
    assert [each.name for each in new_functions(deployment, [less])] == ["one"]


def test_a_version_of_a_newer_gearsync_is_no_reason_to_fail_behind_a_deploy(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = choose(file, None, ()).deployment
    newer = {deployment.name: Deployed(deployment.name, 1, "active", '{"format": 99}')}
    assert existing_keys(shards_of(FakeHost()), deployment, [newer]) == 0
    assert "could not be seen: the payload has format 99" in " ".join(capsys.readouterr().err.split())


def test_a_backfill_that_waits_for_what_is_paused_says_so() -> None:
    pause = {"since_ms": 1790000000000, "by": "ada", "reason": "dead letters"}
    worker = {"state": "running", "heartbeat_age_ms": 0, "mode": "supervised"}
    entry = {
        "name": "people",
        "version": 1,
        "state": "paused",
        "paused": pause,
        "worker": worker,
        "targets": [],
    }
    entry["backlog"] = {"entries": 7, "bytes": 0, "limit_entries": 0, "limit_bytes": 0, "full": False}
    shards = shards_of(FakeHost(entries=[entry, {**entry, "name": "orders"}]))
    stop = Stop()
    backlog = Backlog(shards.shards[0], "people", 7, stop, {})
    # It would wait on.
    stop.set()
    with pytest.raises(Stopped):
        backlog.room()
    (problem,) = backlog.problems
    assert problem.startswith(
        "people on 10.0.0.1:6379 is paused since 2026-09-21 14:13:20 UTC by ada: dead letters;"
    )


def backlog_entry(name: str, **backlog: int) -> dict[str, Any]:
    none = {"entries": 0, "bytes": 0, "limit_entries": 0, "limit_bytes": 0, "full": False}
    worker = {"state": "running", "heartbeat_age_ms": 0, "mode": "supervised"}
    return {
        "name": name,
        "version": 1,
        "state": "active",
        "worker": worker,
        "targets": [],
        "backlog": {**none, **backlog},
    }


def test_all_who_get_the_keys_have_room() -> None:
    """A key makes a change for each target of each deployment that covers it."""
    host = FakeHost(entries=[backlog_entry("people", limit_entries=100), backlog_entry("orders")])
    backlog = Backlog(shards_of(host).shards[0], "people", 1000, Stop(), {"people": 3, "orders": 1})
    assert backlog.room() == 16
    host.entries[1] = backlog_entry("orders", entries=90, limit_entries=200)
    assert backlog.room() == 10
    host.entries[1] = backlog_entry("orders", entries=100, limit_entries=200)
    stop = Stop()
    stop.set()
    waiting = Backlog(shards_of(host).shards[0], "people", 1000, stop, {"orders": 1})
    with pytest.raises(Stopped):
        waiting.room()
    # One that covers other keys is nothing to it.
    assert Backlog(shards_of(host).shards[0], "people", 1000, Stop(), {}).room() == 50


def test_a_bound_in_bytes_is_come_near_to_by_small_steps() -> None:
    host = FakeHost(entries=[backlog_entry("people", limit_bytes=1000)])
    backlog = Backlog(shards_of(host).shards[0], "people", 1000, Stop(), {})
    assert [backlog.room() for _ in range(4)] == [1, 2, 4, 8]
    host.entries[0] = backlog_entry("people", limit_bytes=1000, bytes=300)
    assert [backlog.room() for _ in range(5)] == [16, 8, 4, 2, 1]
