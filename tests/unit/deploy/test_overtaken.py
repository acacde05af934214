"""Two who deploy at once: neither takes back, or covers up, what the other one has done meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from deploy.hosts.base import Deployed
from deploy.output import CommandError
from tests.unit.deploy.faked import FakeHost
from tests.unit.deploy.test_interrupts import bring, planned

MINE = Deployed("people", 1, "active", '{"before": 1}')
THEIRS = Deployed("people", 2, "active", '{"wheels": {}}')


@pytest.mark.parametrize(
    ("before", "by_now", "told"),
    [
        ((), (THEIRS,), "somebody else has deployed version 2 of people on 10.0.0.2"),
        ((MINE,), (THEIRS,), "somebody else has deployed version 2 of people on 10.0.0.2"),
        ((MINE,), (Deployed("people", 1, "active", "{}"),), "has deployed version 1 of people on 10.0.0.2"),
        ((MINE,), (Deployed("people", 1, "draining", MINE.payload),), "is undeploying people on 10.0.0.2"),
        ((MINE,), (), "10.0.0.2:6379 no longer has people"),
    ],
)
def test_what_somebody_else_has_done_since_the_plan_is_not_covered_up(
    tmp_path: Path, before: tuple[Deployed, ...], by_now: tuple[Deployed, ...], told: str
) -> None:
    first, second = FakeHost(), FakeHost(*before)
    made = planned(tmp_path, first, second)
    second.deployed = by_now
    with pytest.raises(CommandError, match=told):
        bring(*made)
    assert (first.acts, second.acts) == (["deploy", "discard"], [])


def test_a_deployment_that_has_drained_since_the_plan_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeHost(Deployed("people", 1, "draining", "{}")), FakeHost()
    made = planned(tmp_path, first, second)
    first.deployed = ()
    monkeypatch.setattr(second, "deploy", interrupt)
    with pytest.raises(CommandError, match="it was interrupted"):
        bring(*made)
    assert first.acts[0] == "deploy"


def test_what_somebody_else_has_deployed_over_it_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeHost(), FakeHost()
    made = planned(tmp_path, first, second)

    def overtake(*_: object) -> NoReturn:
        first.deployed = (THEIRS,)
        raise KeyboardInterrupt

    monkeypatch.setattr(second, "deploy", overtake)
    with pytest.raises(CommandError, match="has version 2 of somebody else by now, which was left alone"):
        bring(*made)
    assert first.acts == ["deploy"]


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
