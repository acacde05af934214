"""What a load tells, and where it can't be."""

from __future__ import annotations

import time

import pytest
import redis

from deploy import progress
from deploy.hosts.redisgears import RedisGearsHost


def test_redisgears_says_what_a_load_needs() -> None:
    with pytest.raises(redis.ResponseError, match="gearsync load needs the gearsync module"):
        RedisGearsHost(redis.Redis()).mark()


def test_without_a_terminal_a_count_comes_in_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress.Count("Loading persons", "rows", 1000) as count:
        for seconds, rows, total in (
            (1, 2000, None),
            (6, 7000, None),
            (7, 8000, 4000),
            (20, 21_000, 4_021_000),
        ):
            clock[0] = 100.0 + seconds
            count.show(rows, total)
    assert capsys.readouterr().err.splitlines() == [
        "Loading persons: 7,000 rows, 1,000/s",
        "Loading persons: 21,000 of 4,021,000 rows, 1,000/s, 1:06:40 left",
    ]
