"""What SQL keeps of a transaction of waiting clients."""

from __future__ import annotations

import pytest

from gears.applying.intents import WORTH_COMPRESSING, Outcome, key_set_by, outcomes_of, record_of


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_record_comes_back_as_it_was(count: int) -> None:
    said = [Outcome(f"{n}-0", bytes(range(0, 256, 8)), "" if n % 2 else "ä is refused") for n in range(count)]
    record = record_of(said)
    assert outcomes_of(record) == said
    assert record.startswith(b"[") == (count < 2)
    assert count < 2 or len(record) < count * WORTH_COMPRESSING / 4


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (b"0 *4\r\n$4\r\nHSET\r\n$5\r\np:1\r\n\r\n$1\r\na\r\n$1\r\n1\r\n", b"p:1\r\n"),
        (b"0 *2\r\n$3\r\nDEL\r\n$16\r\n$4\r\nHSET\r\n$1\r\nx\r\n", None),
        (b"0 *3\r\n$4\r\nHDEL\r\n$3\r\np:1\r\n$1\r\na\r\n", None),
        (b"", None),
    ],
)
def test_the_key_that_a_command_makes(command: bytes, key: bytes | None) -> None:
    assert key_set_by(command) == key
