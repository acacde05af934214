"""A failover while a command waits for all shards."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from deploy import workers
from deploy.backfill.place import Place
from deploy.cli import group
from deploy.reaching import shards
from deploy.reaching.shards import Shards
from tests.unit.deploy.faked import FakeHost, shards_of


class Node(FakeHost):
    """A primary with the deployment, whose looks are counted; ``lost``: the look from which on it is away."""

    def __init__(self, version: int = 2, state: str = "active", lost: int = 1000) -> None:
        super().__init__()
        self.version, self.state, self.lost = version, state, lost
        self.looks = 0

    def status(self) -> dict[str, Any]:
        self.looks += 1
        if self.looks >= self.lost:
            raise redis.ConnectionError("refused")
        report = {"version": self.version, "state": "running", "targets": {}}
        worker = {"mode": "supervised", "state": "running", "heartbeat_age_ms": 1, "report": report}
        backlog = {"entries": 0}
        more = {"worker": {**worker, "restarts": 0}, "backlog": backlog, "targets": []}
        own = {"name": "people", "version": self.version, "state": self.state, **more}
        return {"tag": "0", "role": "primary", "deployments": [own] if self.state != "gone" else []}

    def undeploy(self, name: str, discard: bool) -> None:
        super().undeploy(name, discard)
        self.state = "draining"

    def finish(self, name: str) -> None:
        self.state = "gone"


def promoted(monkeypatch: pytest.MonkeyPatch, *hosts: FakeHost) -> Shards:
    """Return the second of two shards, which is promoted when the first one is looked for again."""
    one, two = shards_of(*hosts).shards
    before, after = Shards("cluster", [one], one.url), Shards("cluster", [two], two.url)
    monkeypatch.setattr(before, "again", lambda *_, **__: after)
    return before


def test_a_deploy_waits_for_the_worker_of_who_was_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = promoted(monkeypatch, Node(lost=1), Node())
    seen: list[str] = []
    states = workers.wait_until_running(
        found, "people", 2, {}, 20, lambda each: seen.extend(one.state for one in each)
    )
    assert [(each.address, each.state) for each in states] == [("10.0.0.2:6379", "running")]
    assert seen == ["out of sight", "running"]


def test_a_deploy_tells_of_who_was_promoted_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = promoted(monkeypatch, Node(lost=1), Node(version=1))
    [state] = workers.wait_until_running(found, "people", 2, {}, 0.5, lambda _: None)
    assert (state.state, state.detail, state.is_settled) == ("starting", "version 1 is there", False)


def test_an_undeploy_tells_who_was_promoted_and_had_not_heard_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Node(lost=2), Node()
    monkeypatch.setattr(shards, "connect", lambda _: promoted(monkeypatch, *hosts))
    monkeypatch.setattr(Place, "forget", lambda *_: None)
    done = CliRunner().invoke(group, ["undeploy", "people", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["deployment"] == "people"
    assert [each.acts for each in hosts] == [["undeploy"], ["undeploy"]]
    assert hosts[1].state == "gone"


def test_an_undeploy_says_which_shard_it_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shards_of(Node(lost=2), Node())
    monkeypatch.setattr(found, "again", lambda *_, **__: found)
    monkeypatch.setattr(shards, "connect", lambda _: found)
    monkeypatch.setattr(Place, "forget", lambda *_: None)
    done = CliRunner().invoke(group, ["undeploy", "people", "--timeout", "0.5"])
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert "people is still draining: 10.0.0.1:6379: Redis at 10.0.0.1:6379 can't be reached" in said
