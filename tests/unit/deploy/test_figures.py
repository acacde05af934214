"""Figures from one status document after another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.watching.figures import DeploymentFigures, Sampler
from deploy.watching.rates import Rate


def status(captured: int = 0, applied: int = 0, worker: str = "w1") -> dict[str, Any]:
    """Return the document of a shard with one deployment of two functions in one target."""
    told = {
        "changes": applied,
        "functions": {"people": applied},
        "retries": 2,
        "state": "running",
        "last_error": "",
        "lag_ms": {"p50": 1.0, "p99": 9.0},
    }
    lane = {"length": 7, "bytes": 70, "oldest_ms": 30}
    deployment = {
        "name": "crm",
        "version": 3,
        "state": "active",
        "captured": captured,
        "functions": [
            {"name": "people", "target": "a", "captured": captured},
            {"name": "pets", "target": "a", "captured": 0},
        ],
        "backlog": {"entries": 7, "bytes": 70, "limit_entries": 10, "limit_bytes": 1000, "full": False},
        "worker": {
            "state": "running",
            "restarts": 0,
            "heartbeat_age_ms": 20,
            "report": {"worker": worker, "state": "running", "error": "", "targets": {"a": told}},
        },
        "targets": [{"name": "a", "captured": captured, "dead_letters": 4, "lanes": [lane]}],
    }
    shard = {"address": "h:1", "role": "primary", "server": "7.4.1", "epoch": 5}
    return {**shard, "deployments": [deployment]}


AWAY = {"address": "h:1", "error": "Redis at h:1 can't be reached."}


def fed(*looks: tuple[float, dict[str, Any]]) -> DeploymentFigures:
    """Return the deployment's figures after looks at (second, document)."""
    sampler = Sampler()
    for at, document in looks:
        found = sampler.feed([document], at)
    return found[0].deployments[0]


def test_rates_of_each_function_its_target_and_the_whole() -> None:
    crm = fed((0.0, status(100, 50)), (2.0, status(300, 90)))

    people, pets = crm.functions
    assert (people.flow.rate_in, people.flow.rate_out) == (100.0, 20.0)
    assert (pets.flow.rate_in, pets.flow.rate_out, pets.flow.applied) == (0.0, 0.0, 0)
    assert (crm.targets[0].flow, crm.flow) == (people.flow, people.flow)


def test_what_a_target_tells_of_itself() -> None:
    crm = fed((0.0, status()))

    target = crm.targets[0]
    assert (target.state, target.dead_letters, target.retries, target.lag.p99_ms) == ("running", 4, 2, 9.0)
    assert (target.backlog.entries, target.backlog.bytes, target.backlog.oldest_ms) == (7, 70, 30)
    assert (crm.backlog.share, crm.dead_letters, crm.lag) == (0.7, 4, target.lag)


@pytest.mark.parametrize(
    ("worker", "applied", "rate"),
    [
        ("w1", 110, 10.0),
        # Smaller than before: it has begun again, whoever it is.
        ("w1", 30, 30.0),
        # Another worker, that has already done more than the one before it.
        ("w2", 130, 130.0),
    ],
)
def test_a_counter_that_began_again(worker: str, applied: int, rate: float) -> None:
    crm = fed((0.0, status(0, 100)), (1.0, status(0, applied, worker)))
    assert crm.flow.rate_out == rate


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(window=5.0)
    for second in range(10):
        rate.observe(second, 0)
    assert [rate.observe(10 + second, 100 * (second + 1)) for second in (0, 4, 9)] == [20.0, 100.0, 100.0]


def test_a_clock_that_is_set_back_makes_no_negative_rate() -> None:
    rate = Rate()
    seen = [rate.observe(at, value) for at, value in [(50.0, 1), (51.0, 2), (10.0, 3), (11.0, 5)]]
    assert seen == [None, 1.0, None, 2.0]


def test_a_shard_that_is_away_shows_why_and_goes_on_later() -> None:
    sampler = Sampler()
    sampler.feed([status(10, 10)], 0.0)
    (away,) = sampler.feed([AWAY], 1.0)
    (back,) = sampler.feed([status(12, 12)], 2.0)

    assert (away.up, away.error, away.deployments) == (False, AWAY["error"], ())
    assert back.deployments[0].flow.rate_in == 1.0
    assert [each.at for each in back.deployments[0].history] == [0.0, 2.0]


def test_what_is_undeployed_is_forgotten() -> None:
    sampler = Sampler()
    sampler.feed([status(10, 10)], 0.0)
    sampler.feed([{**status(), "deployments": []}], 1.0)
    (again,) = sampler.feed([status(12, 12)], 2.0)
    assert len(again.deployments[0].history) == 1


def test_the_history_is_of_the_last_minutes() -> None:
    crm = fed(*((float(second), status(second * 10)) for second in range(0, 700, 10)))
    assert [crm.history[0].at, crm.history[-1].at] == [390.0, 690.0]
    assert {each.rate_in for each in crm.history} == {10.0}


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"state": "draining"}, "draining"),
        (
            {"worker": {"state": "backoff", "restarts": 3, "heartbeat_age_ms": -1, "report": None}},
            "backoff",
        ),
        (
            {
                "worker": {
                    "state": "running",
                    "restarts": 0,
                    "heartbeat_age_ms": 9,
                    "report": {"worker": "w1", "state": "installing", "error": "", "targets": {}},
                }
            },
            "installing",
        ),
    ],
)
def test_a_state_is_the_first_thing_in_the_way(more: dict[str, Any], state: str) -> None:
    document = status()
    document["deployments"][0].update(more)
    crm = fed((0.0, document))
    assert [crm.targets[0].state, crm.functions[0].state] == [state, state]


def test_a_host_that_tells_less() -> None:
    bare = status()
    deployment = bare["deployments"][0]
    del deployment["functions"], deployment["targets"][0]["captured"]
    deployment["targets"][0]["lanes"] = [{"length": 3}]
    crm = fed((0.0, bare))
    backlog = crm.targets[0].backlog
    assert (crm.functions, backlog.entries, backlog.bytes, backlog.oldest_ms) == ((), 3, None, None)


def test_the_document_is_json_and_has_samples_only_when_asked() -> None:
    sampler = Sampler()
    (shard,) = sampler.feed([status(5)], 1.0)
    document = json.loads(json.dumps(shard.to_document(history=True)))
    assert document["deployments"][0]["history"][0]["at"] == 1.0
    assert "history" not in json.dumps(shard.to_document())
