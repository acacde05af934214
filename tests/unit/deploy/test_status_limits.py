"""The limits of gearsync status --check."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.status import Limits, attention
from tests.unit.deploy.test_figures import AWAY, status


def sentences(limits: Limits, document: dict[str, Any] | None = None) -> list[str]:
    """Return what needs attention of a deployment that has a lag, dead letters and a backlog of 70%."""
    shown = document or status()
    deployment = shown["deployments"][0]
    deployment["worker"]["mode"] = "supervised"
    deployment["backlog"]["on_full"] = "refuse"
    return [each.removeprefix("crm on h:1: ") for each in attention([shown], limits)]


def test_without_limits_only_dead_letters_count() -> None:
    assert sentences(Limits()) == ["4 dead letters of target a; see gearsync deadletters list."]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(max_lag_ms=8.5, max_dead_letters=4), "its p99 lag is 9 ms, above 8 ms."),
        (Limits(max_lag_ms=20, max_dead_letters=4), "a change waits for 30 ms, longer than 20 ms."),
        (
            Limits(max_backlog_share=0.69, max_dead_letters=4),
            "the backlog is at 70% of its limit, above 69%.",
        ),
        (Limits(max_dead_letters=3), "4 dead letters of target a; see gearsync deadletters list."),
    ],
)
def test_what_is_above_a_limit_is_said(limits: Limits, sentence: str) -> None:
    assert sentence in sentences(limits)


def test_what_is_at_its_limit_needs_no_attention() -> None:
    assert sentences(Limits(max_lag_ms=30, max_dead_letters=4, max_backlog_share=0.7)) == []


def test_a_shard_that_is_away_needs_attention() -> None:
    assert attention([AWAY], Limits()) == [AWAY["error"]]
