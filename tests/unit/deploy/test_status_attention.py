"""What of a status needs attention."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from deploy import barrier, status

SOUND: dict[str, Any] = {
    "address": "h:1",
    "deployments": [
        {
            "name": "people",
            "version": 1,
            "state": "active",
            "missed": 0,
            "failed": 0,
            "backlog": {
                "entries": 0,
                "bytes": 0,
                "limit_entries": 0,
                "limit_bytes": 0,
                "full": False,
                "on_full": "refuse",
            },
            "worker": {
                "mode": "supervised",
                "state": "running",
                "last_exit": "",
                "heartbeat_age_ms": 20,
                "report": {
                    "state": "running",
                    "error": "",
                    "targets": {
                        "a": {"state": "running", "last_error": "", "lag_ms": {"p50": 1.0, "p99": 9.0}},
                        "b": {"state": "running", "last_error": "", "lag_ms": {"p50": 2.0, "p99": 3.0}},
                    },
                },
            },
            "targets": [{"name": "a", "dead_letters": 0}, {"name": "b", "dead_letters": 0}],
        }
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return SOUND with another value at ``path`` below its deployment."""
    document = copy.deepcopy(SOUND)
    at: Any = document["deployments"][0]
    *way, last = path.split("/")
    for word in way:
        at = at[int(word)] if isinstance(at, list) else at[word]
    at[last] = value
    return document


def test_nothing_of_a_sound_status() -> None:
    assert status.attention([SOUND]) == []


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("worker/state", "backoff", "its worker does not run: backoff."),
        (
            "worker/report/targets/a/around",
            {"brought": 7, "waiting": 1, "behind_s": 61.4},
            "rows that changed in target a wait for 61 s to reach Redis.",
        ),
        ("worker/heartbeat_age_ms", 20_000, "its worker has not reported for 20 s."),
        ("worker/report/error", "no such table", "running: no such table."),
        ("backlog/full", True, "the backlog is at its limit, covered writes are refused."),
        ("missed", 1200, "1,200 writes were to keys that fit no template, the last to x:y:z."),
        ("failed", 2, "2 changes could not be captured; see the server's log."),
        ("targets/1/dead_letters", 1, "1 dead letter of target b; see gearsync deadletters list."),
        ("targets/1/dead_letters", 1200, "1,200 dead letters of target b; see gearsync deadletters list."),
    ],
)
def test_one_sentence_for_each_trouble(path: str, value: Any, sentence: str) -> None:
    document = changed(path, value)
    document["deployments"][0]["missed_key"] = "x:y:z"
    assert status.attention([document]) == [f"people on h:1: {sentence}"]


@pytest.mark.parametrize(("key", "shown"), [("caf\xc3\xa9", "caf\u00e9"), ("\xff:\xc3", "\\xff:\\xc3")])
def test_a_missed_key_is_shown_as_text(key: str, shown: str) -> None:
    document = changed("missed", 1)
    document["deployments"][0]["missed_key"] = key
    assert status.attention([document])[0].endswith(f"the last to {shown}.")


def test_a_target_that_waits_says_for_what() -> None:
    document = changed("worker/report/targets/b", {"state": "waiting", "last_error": "connection refused"})
    assert status.attention([document]) == ["people on h:1: target b waits: connection refused."]


def test_the_exit_of_a_worker_is_told() -> None:
    document = changed("worker/state", "backoff")
    document["deployments"][0]["worker"]["last_exit"] = "exit code 1"
    assert status.attention([document]) == ["people on h:1: its worker does not run: backoff (exit code 1)."]


def test_a_worker_that_has_never_reported() -> None:
    document = changed("worker/report", None)
    document["deployments"][0]["worker"]["heartbeat_age_ms"] = -1
    assert status.attention([document]) == []
    assert status.lag(document["deployments"][0]) is None


def test_a_shard_that_lacks_what_another_has_is_named() -> None:
    document = copy.deepcopy(SOUND)
    bare = {"address": "h:2", "deployments": []}
    [problem] = status.attention([document, bare])
    assert problem.startswith("h:2 has no deployment people: what is written there is not captured;")
    assert status.attention([changed("state", "draining"), bare]) == []


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            "version",
            2,
            "people is version 1 on h:1, h:3 and version 2 on h:2: deploy again, or run gearsync rollback "
            "people.",
        ),
        (
            "state",
            "draining",
            "people is being undeployed on h:2, and not on h:1, h:3: run gearsync undeploy people, or deploy "
            "again.",
        ),
        (
            "paused",
            {"since_ms": 1},
            "people is paused on h:2, and not on h:1, h:3: run gearsync pause people, or resume.",
        ),
        (
            "targets/1/paused",
            {"since_ms": 1},
            "target b of people is paused on h:2, and not on h:1, h:3: run gearsync pause people --target b, "
            "or resume.",
        ),
    ],
)
def test_what_was_done_on_some_of_the_shards_alone_is_told(path: str, value: Any, sentence: str) -> None:
    """As by a command that was killed on its way, or where a promoted replica had not heard of it."""
    one, other, third = copy.deepcopy(SOUND), changed(path, value), copy.deepcopy(SOUND)
    other["address"], third["address"] = "h:2", "h:3"
    assert status.attention([one, other, third]) == [sentence]
    alike = copy.deepcopy(other)
    alike["address"] = "h:3"
    assert status.attention([other, alike]) == []


def test_lag_is_that_of_the_slowest_target() -> None:
    assert status.lag(SOUND["deployments"][0]) == (1.0, 9.0)


def test_leftovers_are_of_the_deployment_asked_for() -> None:
    document = changed("backlog/entries", 1200)
    assert barrier.leftovers([document]) == ["people on h:1: 1,200 changes wait."]
    assert barrier.leftovers([document], "people") == ["people on h:1: 1,200 changes wait."]
    assert barrier.leftovers([document], "orders") == []
