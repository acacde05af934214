"""The histogram of lags."""

from __future__ import annotations

from gears.applying.lag import BOUNDS, LagHistogram


def within(histogram: LagHistogram, seconds: float) -> int:
    found: int = histogram.document()["counts"][BOUNDS.index(seconds)]
    return found


def test_each_change_is_in_the_buckets_that_it_fits() -> None:
    histogram = LagHistogram()
    times = [1_000, 50_000, 99_500, 99_996, 100_000]
    histogram.add(100_000, len(times), times.__getitem__)

    assert (within(histogram, 0.005), within(histogram, 0.5), within(histogram, 60.0)) == (2, 3, 4)
    assert histogram.document()["count"] == 5
    assert histogram.document()["sum"] == 149.504


def test_batches_add_up() -> None:
    histogram = LagHistogram()
    for _ in range(3):
        histogram.add(2_000, 1, [1_900].__getitem__)
    assert (within(histogram, 0.05), within(histogram, 0.1)) == (0, 3)
    assert histogram.document()["sum"] == 0.3


def test_a_large_batch_is_counted_whole_and_looked_at_in_part() -> None:
    asked = []

    def ms_at(place: int) -> int:
        asked.append(place)
        return place

    histogram = LagHistogram()
    histogram.add(100_000, 100_000, ms_at)

    assert len(asked) < 400
    # Bounds are included: place 95,000 is 5 s old.
    assert (within(histogram, 5.0), within(histogram, 300.0)) == (5_000, 100_000)
    assert abs(histogram.document()["sum"] - 100_000 * 50) / (100_000 * 50) < 0.02


def test_a_clock_that_is_behind_makes_no_negative_lag() -> None:
    histogram = LagHistogram()
    histogram.add(1_000, 1, [1_500].__getitem__)
    assert histogram.document()["sum"] == 0.0
    assert within(histogram, 0.005) == 1


def test_what_is_in_each_bucket_is_what_came_within_its_bound() -> None:
    times = [90_000, 95_000, 95_000, 99_000, 99_990, 100_500]
    for first in range(len(times)):
        for last in range(first, len(times)):
            histogram, some = LagHistogram(), times[first : last + 1]
            histogram.add(100_000, len(some), some.__getitem__)
            counted = [within(histogram, bound) for bound in BOUNDS]
            assert counted == [sum(100_000 - each <= bound * 1000 for each in some) for bound in BOUNDS]
