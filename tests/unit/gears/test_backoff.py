"""How long the worker waits between two tries."""

from __future__ import annotations

from gears.worker.backoff import Backoff


def test_each_wait_is_within_the_upper_half_of_its_ceiling() -> None:
    for _ in range(200):
        backoff = Backoff(first=1.0, most=5.0)
        waits = [backoff.next_seconds() for _ in range(5)]
        for wait, ceiling in zip(waits, (1.0, 2.0, 4.0, 5.0, 5.0)):
            assert ceiling / 2 <= wait <= ceiling


def test_waits_differ_so_that_workers_do_not_come_back_at_once() -> None:
    assert len({Backoff(1.0).next_seconds() for _ in range(20)}) > 10


def test_thousands_of_failures_still_have_a_wait() -> None:
    backoff = Backoff(most=30.0)
    backoff.failures = 5000
    assert 15.0 <= backoff.next_seconds() <= 30.0


def test_a_success_starts_anew() -> None:
    backoff = Backoff(first=1.0)
    for _ in range(10):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.next_seconds() <= 1.0
