"""What a sample says of all: how many may differ, with a stated confidence."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
STEPS = 60
"""Halvings: far below what a number of 8 bytes can tell apart."""


def most_that_differ(sampled: int, different: int) -> float:
    """Return the share of all that differs at most, with ``CONFIDENCE``: the exact bound of Clopper and
    Pearson. Without a sample it is all.
    """
    if different >= sampled:
        return 1.0
    low, high = different / sampled, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _at_most(sampled, different, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _at_most(sampled: int, different: int, share: float) -> float:
    """Return the chance to find no more than ``different`` of ``sampled`` if ``share`` of all differ."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    logs = [
        math.lgamma(sampled + 1)
        - math.lgamma(each + 1)
        - math.lgamma(sampled - each + 1)
        + each * math.log(share)
        + (sampled - each) * math.log1p(-share)
        for each in range(different + 1)
    ]
    return math.fsum(map(math.exp, logs))
