"""Transactions that stay whole: read to their end, told apart, and refused where they can't."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from connectors import Position
from deploy.hosts import drivers
from deploy.hosts.redisgears import RedisGearsHost
from gears.applying.whole import transactions_of
from gears.declaring.config import load
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.worker import lanes, readahead
from tests.unit.gears.batches import change

Entry = tuple[bytes, list[bytes]]


class Stream:
    """A lane as XREAD shows it; what stands in ``later`` comes with the reads after the first."""

    def __init__(self, *transactions: int) -> None:
        self.entries: list[Entry] = []
        self.later: list[int] = []
        self.reads = 0
        self.add(*transactions)

    def add(self, *transactions: int) -> None:
        for size in transactions:
            for at in range(size):
                number = len(self.entries) + 1
                meta = b"u1+" if at else b"u1"
                self.entries.append((b"%d-0" % number, [b"k", b"person:1", b"m", meta]))

    def send_command(self, *words: Any) -> None:
        self.words = words
        if self.reads and self.later:
            self.add(self.later.pop(0))
        self.reads += 1

    def read_response(self) -> Any:
        after, count = int(self.words[-1].partition(b"-")[0]), self.words[2]
        found = self.entries[after : after + count]
        return [[b"lane", found]] if found else None


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(stream: Stream) -> lanes.Reader:
        pool = SimpleNamespace(get_connection=lambda: stream)
        monkeypatch.setattr(lanes, "connect", lambda url: SimpleNamespace(connection_pool=pool))
        return lanes.Reader("redis://", "lane")

    return made


def batches(found: lanes.Reader, most: int) -> list[int]:
    """Read as the worker does, until there is nothing more; return how many changes each batch has."""
    sizes: list[int] = []
    while True:
        reading = lanes.Reading()
        while len(reading) < most and found.read_into(reading, most - len(reading), 0):
            continue
        if not len(reading):
            return sizes
        found.end_transaction(reading)
        assert not reading.changes[0].goes_on
        assert reading.last_id == reading.changes[-1].id
        sizes.append(len(reading))


@pytest.mark.parametrize(
    ("transactions", "most", "sizes"),
    [
        ([1, 1, 1, 1, 1], 2, [2, 2, 1]),
        ([3, 2, 1, 4], 2, [3, 2, 5]),
        ([5], 1, [5]),
        ([1, 5, 1, 1], 1, [1, 5, 1, 1]),
        ([2500, 1, 1999, 1500], 2000, [2500, 2000, 1500]),
        ([999, 2, 999], 1000, [1001, 999]),
        ([1000, 1000], 1000, [1000, 1000]),
    ],
)
def test_a_batch_ends_where_a_transaction_does(
    reader: Any, transactions: list[int], most: int, sizes: list[int]
) -> None:
    """One that is larger than a batch is a batch of its own."""
    assert batches(reader(Stream(*transactions)), most) == sizes


def test_what_comes_meanwhile_is_of_the_next_batch(reader: Any) -> None:
    stream = Stream(2)
    stream.later = [3, 1, 2]
    assert batches(reader(stream), 2) == [2, 3, 3]


def test_large_changes_are_read_and_applied_a_few_at_a_time(
    reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has the lane and the answer in its memory, the worker a batch in several forms."""
    monkeypatch.setattr(lanes, "PAGE_BYTES", 10_000)
    monkeypatch.setattr(readahead, "BATCH_BYTES", 20_000)
    stream = Stream(*[1] * 100)
    for _, pairs in stream.entries:
        pairs += [b"note", b"x" * 1000]
    counts: list[int] = []
    found, send = reader(stream), stream.send_command

    def noted(*words: Any) -> None:
        counts.append(words[2])
        send(*words)

    monkeypatch.setattr(stream, "send_command", noted)
    source = Mock(stream="lane", limits=(2000, 0))
    source.cut.return_value = False
    source.sift.side_effect = lambda reader, changes: changes
    applier = Mock(position=Position(0, 0, 0))
    applier.parts.side_effect = lambda changes: [changes]
    applier.prepare.side_effect = len
    reading = readahead.ReadingThread(source, applier)
    sizes: list[Any] = []
    for _ in range(3):
        reading._read_batch(found)
        item = reading.take()
        sizes.append(item.batch if item is not None else None)
    assert (counts, sizes) == ([50, *[9] * 6], [50, 27, 23])


def test_nothing_more_is_read_where_the_lane_ends(reader: Any) -> None:
    stream = Stream(3)
    found, reading = reader(stream), lanes.Reading()
    assert found.read_into(reading, 100, 0) == 3
    found.end_transaction(reading)
    assert stream.reads == 1


def test_changes_are_told_apart_by_their_entries() -> None:
    """What begins in the middle of one, since its head is no more, is one of its own."""
    epochs = [("u", "1+"), ("u", "1"), ("d", "2+"), ("u", "3+"), ("u", "1")]
    found = [change(op, epoch=epoch) for op, epoch in epochs]
    assert [len(each) for each in transactions_of(found)] == [1, 3, 1]
    assert transactions_of([]) == []
    assert found[2].epoch == 2


SETTINGS = 'from gears import *\nfrom connectors import Target\nt = Target("env:A", name="a")\n'
BEHIND = 'WriteBehind(keys="s:{id}", table="s", columns=["a"], target=t)\n'


def loaded(folder: Path, settings: str, function: str = BEHIND) -> Deployment:
    path = folder / "functions.py"
    path.write_text(f"{SETTINGS}deployment_settings({settings})\n{function}")
    return load(str(path))


def test_the_option_is_in_the_payload_only_where_it_is_set(tmp_path: Path) -> None:
    whole, plain = loaded(tmp_path, 'transactions="whole"'), loaded(tmp_path, 'transactions="apart"')
    assert b"TRANSACTIONS" in whole.deploy_arguments() and b"TRANSACTIONS" not in plain.deploy_arguments()
    assert "transactions" not in plain.to_payload() and '"format": 1' in plain.to_payload()
    assert Deployment.from_payload(whole.to_payload()).is_whole
    assert '"format": 3' in whole.to_payload()


@pytest.mark.parametrize(
    ("settings", "function", "sentence"),
    [
        ('transactions="all"', BEHIND, '\'all\' is not "apart" or "whole"'),
        ('transactions="whole", lanes=2', BEHIND, "only with one lane"),
        ('transactions="whole"', BEHIND.replace("Behind", "Through"), "commits each write before the next"),
        (
            'transactions="whole"',
            'WriteBehind(keys="s:{id}", table="s", columns={"member": "m"}, type="set", target=t)',
            "the members of a set are read when",
        ),
    ],
)
def test_what_can_not_stay_whole_is_said(tmp_path: Path, settings: str, function: str, sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence) as found:
        loaded(tmp_path, settings, function)
    assert [each.option for each in found.value.mistakes] == ["transactions"]


def test_redisgears_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it can't give is said before anything is uploaded."""
    client: Any = Mock(info=Mock(return_value={"redis_version": "7.0.15"}))
    monkeypatch.setattr(RedisGearsHost, "_is_in_cluster", lambda host: False)
    monkeypatch.setattr(RedisGearsHost, "_stranded", lambda host, deployment: [])
    monkeypatch.setattr(drivers, "unusable", lambda deployment: [])
    assert not RedisGearsHost(client).refusal(loaded(tmp_path, "batch=1"))
    refusal = RedisGearsHost(client).refusal(loaded(tmp_path, 'transactions="whole"'))
    assert refusal.startswith('transactions="whole" needs the module')
