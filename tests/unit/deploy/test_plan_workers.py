"""How the state of a worker is read from a shard's status."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.workers import look


def document(**worker: Any) -> dict[str, Any]:
    well: dict[str, Any] = {
        "mode": "supervised",
        "state": "running",
        "restarts": 0,
        "last_exit": "",
        "heartbeat_age_ms": 20,
        "report": {"version": 3, "state": "running", "error": "", "targets": {}},
    }
    return {"address": "h:1", "deployments": [{"name": "people", "version": 3, "worker": {**well, **worker}}]}


def report(
    state: str, error: str = "", version: int = 3, last_error: str = "", target: str = "running"
) -> dict[str, Any]:
    targets = {"reporting": {"state": target, "last_error": last_error}}
    return {"version": version, "state": state, "error": error, "targets": targets}


@pytest.mark.parametrize(
    ("worker", "state", "detail"),
    [
        ({}, "running", ""),
        ({"report": report("installing")}, "starting", "installing requirements"),
        ({"report": report("starting")}, "starting", ""),
        ({"report": report("waiting", last_error="it is down")}, "waiting", "reporting: it is down"),
        ({"report": report("running", target="starting")}, "starting", ""),
        ({"report": report("running", target="waiting", last_error="x")}, "waiting", "reporting: x"),
        ({"report": report("failed", "no such module")}, "failed", "no such module"),
        ({"report": report("fenced")}, "failed", "fenced"),
        ({"report": report("running", version=2)}, "starting", ""),
        ({"report": None, "state": "starting", "heartbeat_age_ms": -1}, "starting", ""),
        ({"heartbeat_age_ms": 60000}, "starting", ""),
        (
            {"report": None, "state": "backoff", "last_exit": "exit code 1"},
            "failed",
            "exit code 1 (the server's log says more)",
        ),
        ({"mode": "external", "report": None, "state": "stopped", "heartbeat_age_ms": -1}, "external", ""),
        ({"mode": "external"}, "running", ""),
    ],
)
def test_states(worker: dict[str, Any], state: str, detail: str) -> None:
    found = look(document(**worker), "people", 3)
    assert (found.address, found.state, found.detail) == ("h:1", state, detail)


def test_a_backoff_of_the_version_before_is_not_taken_for_one_of_this() -> None:
    stale = document(
        report=report("failed", "old", version=2), state="backoff", restarts=4, last_exit="exit code 1"
    )
    assert look(stale, "people", 3, restarts_before=4).state == "starting"
    assert look(stale, "people", 3, restarts_before=3).state == "failed"


def test_a_deployment_that_went_is_a_failure() -> None:
    assert look({"address": "h:1", "deployments": []}, "people", 3).state == "failed"
