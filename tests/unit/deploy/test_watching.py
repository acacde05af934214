"""Which shards are looked at when they come and go."""

from __future__ import annotations

import pytest

from deploy.reaching import shards
from deploy.watching.look import AGAIN_SECONDS, Watch


class FakeShards:
    """Counts how often it was found anew, and closed."""

    shards = ()

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found = self.closed = 0

    def again(self, answer_timeout: float) -> FakeShards:
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
