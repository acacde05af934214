"""What a comparison makes of hashes and rows, without servers."""

from __future__ import annotations

import pytest
import redis

from deploy.hosts.redisgears import RedisGearsHost
from deploy.loading.portions import BYTES, FIRST, Size
from deploy.verifying.comparing import MOST
from deploy.verifying.expected import DIFFERS
from deploy.verifying.report import Counts, Named
from deploy.verifying.sampling import most_that_differ


def test_what_a_sample_says_of_all() -> None:
    # The rule of three, and a bound that is known from tables.
    assert most_that_differ(300, 0) == pytest.approx(0.00994, abs=1e-4)
    assert most_that_differ(100, 5) == pytest.approx(0.1023, abs=2e-3)
    assert most_that_differ(0, 0) == 1.0
    assert most_that_differ(3, 3) == 1.0


def test_redisgears_does_not_tell_what_waits() -> None:
    assert RedisGearsHost(redis.Redis()).tells_waiting is False


def test_large_hashes_are_read_few_at_a_time() -> None:
    """The reply to one command stands in Redis' memory: of 2,000 hashes of a megabyte, two gigabytes."""
    size = Size(MOST)
    size.learn([])
    assert size.keys == FIRST
    size.learn([[b"x" * 10, None]] * 100)
    assert size.keys == MOST
    size.learn([[b"name", b"x" * (1 << 20)]] * 100)
    assert size.keys == BYTES // ((1 << 20) + 4)
    size.learn([[b"x" * (BYTES + 1)]])
    assert size.keys == 1


def test_what_is_left_is_what_was_found_and_not_repaired() -> None:
    counts = Counts(missing=2, extra=1, differs=3, repaired=4, undecided=5)
    assert counts.left == 7
    assert Named(b"\xff", DIFFERS, ("age",)).document()["key"] == {"base64": "/w=="}
