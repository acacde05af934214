"""What SQL keeps of a transaction of waiting clients."""

from __future__ import annotations

import pytest

from gears.applying.intents import WORTH_COMPRESSING, Outcome, outcomes_of, record_of


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_record_comes_back_as_it_was(count: int) -> None:
    said = [Outcome(f"{n}-0", bytes(range(0, 256, 8)), "" if n % 2 else "ä is refused") for n in range(count)]
    record = record_of(said)
    assert outcomes_of(record) == said
    assert record.startswith(b"[") == (count < 2)
    assert count < 2 or len(record) < count * WORTH_COMPRESSING / 4
