"""A pause is over its last batch only when a worker says so that knows of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy import status, workers
from deploy.pausing import held, pauses
from deploy.reaching.shards import Shards
from gears.declaring.functions import Function
from tests.unit.deploy.faked import FakeHost, shards_of


def heard(state: str, age_ms: int) -> list[dict[str, Any]]:
    """The status of one shard, with a worker that reported so long ago."""
    worker = {"heartbeat_age_ms": age_ms, "report": {"state": state}}
    return [{"address": "a", "deployments": [{"name": "people", "worker": worker}]}]


def rounds(monkeypatch: pytest.MonkeyPatch, *documents: list[dict[str, Any]]) -> tuple[dict[str, str], int]:
    """Return what is still at work, and how many of the answers it took to know that."""
    left = list(documents)
    monkeypatch.setattr(status, "fetch", lambda _: left.pop(0))
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.001)
    busy = pauses.wait_until_still(cast(Shards, None), "people", 20, lambda _: None)
    return busy, len(documents) - len(left)


def test_a_report_from_before_the_pause_tells_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = heard("paused", 700), heard("paused", 0)
    assert rounds(monkeypatch, before, heard("running", 0), after) == ({}, 3)


def test_a_worker_that_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(monkeypatch, heard("running", -1)) == ({}, 1)
    assert rounds(monkeypatch, heard("running", workers.HEARTBEAT_FRESH_MS)) == ({}, 1)


def test_verify_knows_that_all_of_a_deployment_waits() -> None:
    """Else it would wait for changes that come to SQL only when somebody resumes."""
    paused = {"since_ms": 1790000000000, "by": "ada", "reason": "a new index"}
    entry = {"name": "people", "paused": paused, "targets": [], "functions": []}
    shards = shards_of(FakeHost(entries=[entry]))
    function = cast(Function, SimpleNamespace(name="persons", target_name="reporting"))
    (sentence,) = held.held_of(shards, function, "people")
    assert sentence.startswith(
        "people is paused since 2026-09-21 14:13:20 UTC by ada: a new index on 10.0.0.1:6379"
    )
    del entry["paused"]
    assert held.held_of(shards, function, "people") == []
