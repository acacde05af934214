"""Which shards are looked at when they come and go."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from deploy import status
from deploy.reaching import shards
from deploy.watching import look
from deploy.watching.look import AGAIN_SECONDS, Watch


class FakeShards:
    """Counts how often it was found anew, and closed."""

    shards: tuple[str, ...] = ()

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found = self.closed = 0

    def again(self, answer_timeout: float, needs_host: bool) -> FakeShards:
        self.found += 1
        return self

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("kind", "found"), [("cluster", 1), ("standalone", 0)])
def test_a_cluster_is_asked_for_its_shards_anew_now_and_then(
    monkeypatch: pytest.MonkeyPatch, kind: str, found: int
) -> None:
    now = [100.0]
    fake = FakeShards(kind)
    monkeypatch.setattr("deploy.watching.look.time.monotonic", lambda: now[0])
    monkeypatch.setattr(shards, "connect", lambda *given: fake)
    watch = Watch("redis://h")
    watch.look()
    assert fake.found == 0
    now[0] += AGAIN_SECONDS + 1
    watch.look()
    watch.look()
    assert (fake.found, fake.closed) == (found, found)


def test_a_shard_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus waits for five seconds only, and would have no figures of the other shards."""
    answers, both = threading.Event(), threading.Barrier(2)

    class Hanging(FakeShards):
        shards = ("one", "other")

        def again(self, answer_timeout: float, needs_host: bool) -> FakeShards:
            assert answers.wait(30) and not needs_host
            return super().again(answer_timeout, needs_host)

    def fetch(shard: Any) -> dict[str, Any]:
        # Each is asked while the other has not answered.
        both.wait(30)
        return {"address": shard, "error": "it hangs"}

    fake = Hanging("cluster")
    monkeypatch.setattr(look, "FIND_SECONDS", 0.05)
    monkeypatch.setattr(status, "fetch_or_error", fetch)
    monkeypatch.setattr(shards, "connect", lambda *given: fake)
    watch = Watch("redis://h")
    assert [each["address"] for _ in range(3) for each in watch.look()] == ["one", "other"] * 3
    assert fake.closed == 0
    answers.set()
    monkeypatch.setattr(look, "FIND_SECONDS", 30)
    watch.look()
    assert (fake.found, fake.closed) == (1, 1)
