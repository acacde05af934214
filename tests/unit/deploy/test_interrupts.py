"""Ctrl-C in a command that changes shards: what is left is a sentence, not just an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner

from deploy import workers
from deploy.backfill.place import Place
from deploy.cli import group
from deploy.commands import deploy, undeploy
from deploy.commands.undeploy import _Left
from deploy.output import CommandError
from deploy.pausing import held, paused_targets, pauses
from deploy.reaching import shards
from deploy.rollout.plan import Plan
from gears.declaring import config
from gears.declaring.deployment import Deployment
from tests.unit.deploy.faked import FakeHost, shards_of

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind

WriteBehind(keys="a:{id}", table="a", columns=["x"], target=Target("sqlite:////tmp/unused.db"))
"""


def interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def planned(folder: Path, *hosts: FakeHost) -> tuple[Plan, Deployment]:
    path = folder / "people.py"
    path.write_text(FUNCTIONS)
    deployment = config.load(str(path))
    return Plan(
        deployment, shards=shards_of(*hosts), before=[host.deployments() for host in hosts]
    ), deployment


def bring(plan: Plan, deployment: Deployment) -> object:
    assert plan.shards is not None
    return deploy._bring(plan, plan.shards, deployment, 1)


def test_a_deploy_that_is_interrupted_amid_the_shards_is_on_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeHost(), FakeHost()
    monkeypatch.setattr(second, "deploy", interrupt)
    with pytest.raises(CommandError, match="nothing was deployed, because it was interrupted"):
        bring(*planned(tmp_path, first, second))
    assert first.acts == ["deploy", "discard"]


def test_a_deploy_that_is_interrupted_behind_the_shards_is_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost()
    monkeypatch.setattr(workers, "restarts", lambda *_: {})
    monkeypatch.setattr(workers, "wait_until_running", interrupt)
    with pytest.raises(CommandError, match="interrupted; people version 1 is deployed") as caught:
        bring(*planned(tmp_path, host))
    assert "gearsync status" in caught.value.hint
    assert host.acts == ["deploy"]


@pytest.mark.parametrize(
    ("words", "act", "wait"),
    [
        ((), (pauses, "pause"), (pauses, "wait_until_still")),
        (("--target", "t"), (paused_targets, "pause"), (paused_targets, "wait_until_still")),
        (("--function", "f"), (held, "pause"), (held, "wait_until_held")),
    ],
    ids=["all", "target", "function"],
)
def test_a_pause_that_is_interrupted_holds(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], act: tuple[Any, str], wait: tuple[Any, str]
) -> None:
    monkeypatch.setattr(*act, lambda *_: None)
    monkeypatch.setattr(*wait, interrupt)
    monkeypatch.setattr(shards, "connect", lambda _: shards_of(FakeHost()))
    done = CliRunner().invoke(group, ["pause", "people", *words])
    assert done.exit_code == 1
    assert "is paused, and a worker may still have a batch" in " ".join(done.stderr.split())


def test_an_undeploy_that_is_interrupted_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    monkeypatch.setattr(undeploy, "_left", lambda *_: [_Left("10.0.0.1:6379", 1, 0, "", False)])
    monkeypatch.setattr(Place, "forget", lambda *_: None)
    monkeypatch.setattr(undeploy, "_wait", interrupt)
    monkeypatch.setattr(shards, "connect", lambda _: shards_of(host))
    done = CliRunner().invoke(group, ["undeploy", "people"])
    assert (done.exit_code, host.acts) == (1, ["undeploy"])
    assert "people captures no more" in " ".join(done.stderr.split())
